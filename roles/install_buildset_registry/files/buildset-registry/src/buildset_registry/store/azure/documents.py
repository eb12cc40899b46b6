# SPDX-License-Identifier: Apache-2.0
"""Azure's documents: lists, errors, and the one that puts blocks together; pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Protocol

from buildset_registry.store.objects.dialect import NO_LIST, ObjectFailure, ObjectPage, ObjectState
from buildset_registry.store.objects.times import unreadable

_BLOB = re.compile(r"<Blob>(.*?)</Blob>", re.DOTALL)
_PREFIX = re.compile(r"<BlobPrefix>\s*<Name>(.*?)</Name>", re.DOTALL)
_FIELD = re.compile(r"<(Name|Content-Length|Etag|Last-Modified)>(.*?)</\1>", re.DOTALL)
_NEXT = re.compile(r"<NextMarker>(.*?)</NextMarker>", re.DOTALL)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_CODE = "x-ms-error-code"
#: The container is not there, whatever was asked for in it.
NO_CONTAINER = "ContainerNotFound"
_KEYS = frozenset({"AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo"})


class _AzureAnswer(Protocol):
    """The three things that are looked at of an answer."""

    @property
    def status(self) -> int:
        """Return its status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return its headers."""

    @property
    def content(self) -> bytes:
        """Return its body."""


def code(answer: _AzureAnswer) -> str:
    """Return the code of an error; empty where there is none."""
    return answer.headers.get(_CODE, "")


def words(answer: _AzureAnswer) -> str:
    """Return what an error says, without what the request was."""
    match = _MESSAGE.search(answer.content.decode("utf-8", "replace"))
    message = unescape(match[1]).strip().partition("\n")[0].strip() if match else ""
    return ": ".join(filter(None, (code(answer), message)))[:300]


def cure(answer: _AzureAnswer, container: str) -> str:
    """Return what to do about an error at the start."""
    if answer.status == 404:
        return f"make the container {container}, or correct its name"
    if code(answer) in _KEYS or answer.status == 401:
        return "correct accountname and accountkey, and see that the clock of this machine is right"
    if answer.status == 403:
        return f"allow these credentials to list and change the container {container}"
    return "correct accountname, realm or serviceurl"


def read_page(content: bytes) -> tuple[ObjectPage, str]:
    """Return a part of a list, and the word by which the next one is asked for.

    Less than all of it is a failure: what no list has, a collection takes for gone.
    """
    if b"</EnumerationResults>" not in content:
        raise ObjectFailure(NO_LIST)
    text = content.decode("utf-8-sig", "replace")
    objects = [_object(dict(_FIELD.findall(match[1]))) for match in _BLOB.finditer(text)]
    prefixes = [unescape(match[1]) for match in _PREFIX.finditer(text)]
    following = _NEXT.search(text)
    return ObjectPage(objects, prefixes), unescape(following[1]) if following else ""


def block_id(upload: str, number: int, word: str = "00000000") -> str:
    """Return the identifier of a block: of one length, as Azure wants them for one blob."""
    return base64.b64encode(f"{upload}-{number:06d}-{word}".encode()).decode()


def block_list(ids: Iterable[str]) -> bytes:
    """Return the document that puts blocks together."""
    inner = "".join(f"<Latest>{one}</Latest>" for one in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{inner}</BlockList>'.encode()


def _object(found: dict[str, str]) -> ObjectState:
    told = found.get("Last-Modified", "")
    try:
        # The end of that second, as of a header: what is compared with it is told by one.
        changed = parsedate_to_datetime(told).timestamp() + 1
    except (ValueError, TypeError):
        raise unreadable(told) from None
    name, etag = unescape(found.get("Name", "")), unescape(found.get("Etag", ""))
    return ObjectState(name, int(found.get("Content-Length") or 0), changed, etag.strip('"'))
