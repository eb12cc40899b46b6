# SPDX-License-Identifier: Apache-2.0
"""Swift's documents: lists, manifests of large objects, what it says of itself; pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.dialect import (
    NO_LIST,
    Body,
    ObjectFailure,
    ObjectPage,
    ObjectPart,
    ObjectState,
)
from buildset_registry.store.objects.times import list_time

#: What an object without content has for a type: an empty one of another type may be large, since a
#: list says nothing of what distribution put together.
EMPTY_TYPE = "application/x-empty"
_TAGS = re.compile(r"<[^>]*>")
#: Digests of temporary URLs; an old Swift knows the last one alone, and a new one has given it up.
_DIGESTS = ("sha256", "sha512", "sha1")
_SLO_SEGMENTS, _LARGEST = 1000, 5 * 1024**3


class _SwiftAnswer(Protocol):
    """The two things that are looked at of an answer."""

    @property
    def status(self) -> int:
        """Return its status."""

    @property
    def content(self) -> bytes:
        """Return its body."""


@dataclass(frozen=True, slots=True)
class SwiftAbilities:
    """The abilities of a Swift, as it tells of them."""

    segments: int = _SLO_SEGMENTS
    """Segments of one manifest."""

    largest: int = _LARGEST
    """Bytes of an object that is not put together."""

    digest: str | None = None
    """The digest of temporary URLs; None: there are none."""

    @classmethod
    def read(cls, content: bytes) -> SwiftAbilities:
        """Read what is answered to ``/info``; what is no such document says nothing."""
        try:
            tree = json.loads(content)
        except ValueError:
            return cls()
        if not isinstance(tree, dict) or "swift" not in tree:
            return cls()
        if "slo" not in tree:
            raise ConfigError(
                "storage.swift: this Swift has no static large objects; have its proxy's pipeline "
                "include slo"
            )
        temporary = tree.get("tempurl")
        known = (temporary or {}).get("allowed_digests", ["sha1"])
        digest = next((one for one in _DIGESTS if one in known), None)
        return cls(
            int(tree["slo"].get("max_manifest_segments", _SLO_SEGMENTS)),
            int(tree["swift"].get("max_file_size", _LARGEST)),
            digest if temporary and "GET" in temporary.get("methods", ["GET"]) else None,
        )


def info_url(account: str) -> str:
    """Return where a Swift tells what it can do, from the URL of an account."""
    base, _slash, _rest = account.partition("/v1/")
    return f"{base}/info"


def words(answer: _SwiftAnswer) -> str:
    """Return what an error says: the text of its page."""
    text = _TAGS.sub(" ", answer.content.decode("utf-8", "replace"))
    return " ".join(text.split())[:200]


def signed_path(url: str, key: str, digest: str, expires: int) -> str:
    """Return the URL by which anybody can read what is at another one until some time."""
    parts = urlsplit(url)
    message = f"GET\n{expires}\n{unquote(parts.path)}"
    signature = hmac.new(key.encode(), message.encode(), digest).hexdigest()
    return f"{url}?temp_url_sig={signature}&temp_url_expires={expires}"


def derived_key(seed: str, url: str) -> str:
    """Return a key that all who know a secret make alike, so that replicas need not agree on it."""
    return hmac.new(seed.encode(), f"temporary URLs of {url}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a large object, as a manifest names it."""

    path: str
    """``/<container>/<name>``."""

    etag: str
    size: int


def read_manifest(content: bytes) -> list[Segment]:
    """Read a manifest in the form in which it is put."""
    return [
        Segment(f"/{one['path'].lstrip('/')}", one["etag"], int(one["size_bytes"]))
        for one in json.loads(content)
    ]


def manifest(segments: Iterable[Segment]) -> bytes:
    """Return the manifest of a large object, to be put."""
    tree = [{"path": one.path, "etag": one.etag, "size_bytes": one.size} for one in segments]
    return json.dumps(tree, separators=(",", ":")).encode()


def word_of(content: Body) -> str:
    """Return a word that only the same content has."""
    hashed = hashlib.sha256()
    for piece in content.pieces:
        hashed.update(piece)
    return hashed.hexdigest()[:32]


def segments_gone(answer: _SwiftAnswer) -> bool:
    """Tell whether a manifest was refused because a segment is not there."""
    return answer.status == 400 and b"404 Not Found" in answer.content


def segments_of(parts: Sequence[ObjectPart], folder: str) -> list[Segment]:
    """Return the segments that parts are; a part's tag is its ETag and its name."""
    found = []
    for part in parts:
        etag, _slash, name = part.tag.partition("/")
        found.append(Segment(f"{folder}{name}", etag, part.size))
    return found


@dataclass(frozen=True, slots=True)
class ListPage:
    """A part of a list, and the name after which the next one begins."""

    page: ObjectPage
    last: str
    unsure: tuple[str, ...]
    """Objects of which the list may not say how large they are."""


def read_page(content: bytes) -> ListPage:
    """Read a part of a list."""
    try:
        return _page(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ObjectFailure(NO_LIST) from None


def _page(listed: Iterable[Mapping[str, str]]) -> ListPage:
    objects, prefixes, last, unsure = [], [], "", []
    for one in listed:
        if "subdir" in one:
            last = one["subdir"]
            prefixes.append(last)
            continue
        last = one["name"]
        kind = one.get("content_type", "")
        if kind.startswith("application/directory"):
            continue
        state = ObjectState(last, int(one["bytes"]), _time(one["last_modified"]), one["hash"])
        objects.append(state)
        if not state.size and not kind.startswith(EMPTY_TYPE):
            unsure.append(last)
    return ListPage(ObjectPage(objects, prefixes), last, tuple(unsure))


def _time(text: str) -> float:
    """Return the end of the second that Swift tells in headers, where it rounds up."""
    return float(math.ceil(list_time(text)) + 1)


def large_object(headers: Mapping[str, str]) -> str | None:
    """Return ``static``, ``dynamic``, or None for an object that is not put together."""
    if headers.get("X-Static-Large-Object", "").lower() == "true":
        return "static"
    return "dynamic" if headers.get("X-Object-Manifest") else None


def dynamic_prefix(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the container and the beginning of the names of a dynamic object's segments."""
    container, _slash, prefix = unquote(headers["X-Object-Manifest"]).partition("/")
    return container, prefix


def quoted(name: str) -> str:
    """Return a name as it stands in a URL."""
    return quote(name, safe="/~-._")
