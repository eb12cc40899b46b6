# SPDX-License-Identifier: Apache-2.0
"""Google's documents: objects, lists, errors; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from buildset_registry.store.objects.dialect import NO_LIST, ObjectFailure, ObjectPage, ObjectState
from buildset_registry.store.objects.times import end_of_second

#: What is asked of each object in a list.
FIELDS = "items(name,size,updated,generation),prefixes,nextPageToken"


class _GoogleAnswer(Protocol):
    """The two things that are looked at of an answer."""

    @property
    def status(self) -> int:
        """Return its status."""

    @property
    def content(self) -> bytes:
        """Return its body."""


def words(answer: _GoogleAnswer) -> str:
    """Return what an error says, without what the request was."""
    try:
        tree = json.loads(answer.content)
        return " ".join(str(tree["error"]["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.content.decode("utf-8", "replace").split())[:200]


def is_absent(answer: _GoogleAnswer) -> bool:
    """Tell whether Google says that there is no such object: a proxy's 404 is no document of it."""
    try:
        return answer.status == 404 and json.loads(answer.content)["error"]["code"] == 404
    except (ValueError, KeyError, TypeError):
        return False


def cure(answer: _GoogleAnswer, bucket: str) -> str:
    """Return what to do about an error at the start."""
    if answer.status == 404:
        return f"make the bucket {bucket}, or correct its name"
    if answer.status == 401:
        return "correct keyfile, and see that the clock of this machine is right"
    if answer.status == 403:
        return f"give these credentials the role Storage Object User for the bucket {bucket}"
    return "correct endpoint"


def read_object(content: bytes) -> ObjectState:
    """Return what is told of an object."""
    try:
        return _object(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ObjectFailure("the object store answers with what is no description") from None


def is_list(content: bytes) -> bool:
    """Tell whether this is a list of a bucket, which may have nothing in it."""
    try:
        return bool(json.loads(content)["kind"] == "storage#objects")
    except (ValueError, KeyError, TypeError):
        return False


def read_page(content: bytes) -> tuple[ObjectPage, str]:
    """Return a part of a list, and the word by which the next one is asked for."""
    try:
        tree = json.loads(content)
        objects = [_object(one) for one in tree.get("items", ())]
        return ObjectPage(objects, tree.get("prefixes", ())), tree.get("nextPageToken", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ObjectFailure(NO_LIST) from None


def composition(names: Sequence[str]) -> bytes:
    """Return the document that puts objects together."""
    tree = {
        "sourceObjects": [{"name": name} for name in names],
        "destination": {"contentType": "application/octet-stream"},
    }
    return json.dumps(tree, separators=(",", ":")).encode()


def _object(tree: dict[str, Any]) -> ObjectState:
    changed = end_of_second(tree["updated"])
    return ObjectState(tree["name"], int(tree.get("size", 0)), changed, str(tree["generation"]))


def rewrite_token(content: bytes) -> str | None:
    """Return the word by which a rewrite goes on; None where it is done."""
    try:
        tree = json.loads(content)
        return None if tree["done"] else str(tree["rewriteToken"])
    except (ValueError, KeyError, TypeError):
        raise ObjectFailure("the object store does not say whether it has copied") from None
