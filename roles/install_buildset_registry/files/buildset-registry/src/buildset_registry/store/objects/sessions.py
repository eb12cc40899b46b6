# SPDX-License-Identifier: Apache-2.0
"""The state of an upload session, in one object: any replica goes on from it.

A line of JSON, and behind it the last bytes, which fill no part yet. They are replaced together, by
a condition: of two requests that go on with one session at two replicas, one is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from buildset_registry.errors import DigestInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, UploadId
from buildset_registry.store.objects.dialect import Body, ObjectPart, PartUpload
from buildset_registry.store.objects.probe import MOST_APART

_VERSION = 1
#: The objects in the folder of a session: what is known of it, what it brought in parts, and when
#: it began, for distribution.
STATE, DATA, STARTED = "state", "data", "startedat"
#: Hexadecimal digits at the end of an identifier by which a repository's sessions are told.
_CHECK = 8
#: Seconds for which a session that nobody knows may be one that another replica began.
_RECENT = 3600.0
#: Seconds by which the clocks of two replicas may differ: each may from the service's, in either
#: direction.
_SKEW = 2.0 * MOST_APART


@dataclass(frozen=True, slots=True)
class _Behind:
    """A line, and pieces behind it, which may be in a file: read anew each time."""

    line: bytes
    pieces: Iterable[bytes]

    def __iter__(self) -> Iterator[bytes]:
        yield self.line
        yield from self.pieces


@dataclass(frozen=True, slots=True)
class SessionState:
    """All that has arrived in a session."""

    size: int = 0
    upload: PartUpload | None = None
    parts: tuple[ObjectPart, ...] = ()
    hashed: bytes | None = None
    """The state of the SHA-256 of all of it, where this system can tell."""

    tail: bytes = b""
    """What is behind the last part."""

    noted: str | None = None
    """The key of what is about to come in parts."""

    doubts: tuple[str, ...] = ()
    """Keys at which there may be parts that no request knows of any more (doubts.py)."""

    committed: Digest | None = None
    """What a request began to make of it: all of that has arrived, and nothing else can come."""

    ended: bool = False
    """Whether somebody is removing it."""

    @property
    def goes_on(self) -> bool:
        """Tell whether it is there, and whole: of what lacks a part nothing can be made."""
        stored = sum(part.size for part in self.parts) + len(self.tail)
        return not self.ended and self.size == stored

    def encode(self, tail: Body) -> Body:
        """Return the content of its object, with what is behind the last part."""
        tree: dict[str, Any] = {
            "version": _VERSION,
            "size": self.size,
            "key": self.upload.key if self.upload else self.noted,
            "upload": self.upload.id if self.upload else None,
            "parts": [[part.number, part.size, part.tag] for part in self.parts],
            "sha256": None if self.hashed is None else self.hashed.hex(),
        }
        if self.doubts:
            tree["doubts"] = list(self.doubts)
        if self.committed is not None:
            tree["committed"] = str(self.committed)
        if self.ended:
            tree["ended"] = True
        line = json.dumps(tree, separators=(",", ":")).encode() + b"\n"
        return Body(len(line) + tail.size, _Behind(line, tail.pieces))

    @classmethod
    def decode(cls, content: bytes) -> SessionState | None:
        """Read one; None where it is none that this release knows."""
        line, _separator, tail = content.partition(b"\n")
        try:
            tree = json.loads(line)
            if tree["version"] != _VERSION:
                return None
            upload = PartUpload(tree["key"], tree["upload"]) if tree["upload"] else None
            parts = tuple(ObjectPart(*one) for one in tree["parts"])
            hashed = bytes.fromhex(tree["sha256"]) if tree["sha256"] else None
            doubts = tuple(tree.get("doubts", ()))
            committed = Digest.parse(tree["committed"]) if "committed" in tree else None
            state = cls(tree["size"], upload, parts, hashed, tail, tree["key"], doubts)
            return replace(state, committed=committed, ended=bool(tree.get("ended")))
        except (ValueError, KeyError, TypeError, DigestInvalid):
            return None


def new_id(name: RepositoryName) -> UploadId:
    """Return an identifier for a session of a repository: any replica knows it for one."""
    made = UploadId.new()
    return UploadId(made[:-_CHECK] + _check(name, made))


def may_begin(name: RepositoryName, upload_id: UploadId) -> bool:
    """Tell whether a replica may have begun a session of which nothing has arrived yet.

    This is no secret: a session holds what its client sends, and nothing else.
    """
    made = upload_id.made
    if made is None or not upload_id.endswith(_check(name, upload_id)):
        return False
    return -_SKEW < time.time() - made < _RECENT


def _check(name: RepositoryName, upload_id: UploadId) -> str:
    return hashlib.sha256(f"{name} {upload_id[:-_CHECK]}".encode()).hexdigest()[:_CHECK]
