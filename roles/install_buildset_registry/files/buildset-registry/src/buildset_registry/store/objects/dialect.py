# SPDX-License-Identifier: Apache-2.0
"""The calls that all services of objects have, in whatever words: what a store asks of one.

Keys are whole: the dialect knows the bucket, and nothing of what is in it. A call is one request or
a few, tried again by the dialect where that may help (``retries``); it raises ``ObjectFailure``
where that did not. What somebody else did at the same time is told by a class of its own, since the
caller knows what it means.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from buildset_registry.errors import ConfigError


class ObjectFailure(OSError):
    """A service that did not do what it was asked to, in a few words; for how long nobody knows."""

    def __init__(self, reason: str, number: int = errno.EIO) -> None:
        super().__init__(number, reason)


#: The reason where a list is none, or ends early.
NO_LIST = "the object store sends something else than a list"


class ConditionFailed(ObjectFailure):
    """Somebody else made or changed the object before."""

    def __init__(self, *, again: bool = False) -> None:
        super().__init__("an object was changed by somebody else at the same time")
        self.again = again
        """Whether an earlier try may have been done without an answer: it may be our own change."""


class PartsGone(ObjectFailure):
    """The parts are not there any more: they were completed, or aborted."""

    def __init__(self) -> None:
        super().__init__("the parts of an upload are gone")


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object, as the service tells of it."""

    key: str
    size: int
    changed: float
    """When it was last written, in seconds since the epoch: the end of that second."""

    version: str
    """The word by which ``Condition`` names this state of it: an ETag, a generation."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A state in which an object has to be for it to be written."""

    version: str | None = None
    """It is still this one; None: there is none yet."""


#: Nobody has written the object yet.
ABSENT = Condition()


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """A part of a list: objects, and the common beginnings of those further in."""

    objects: Sequence[ObjectState]
    prefixes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object whose bytes are on their way; to be read to the end, or closed."""

    state: ObjectState
    chunks: AsyncGenerator[bytes]
    """The bytes that were asked for. One that breaks is asked for again from there on; fewer bytes
    than there should be are an ``ObjectFailure``, never an end."""


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes to be sent, which may be asked for again."""

    size: int
    pieces: Iterable[bytes]
    """All of them, each time that they are asked for."""


@dataclass(frozen=True, slots=True)
class PartUpload:
    """An object that comes in parts; nothing of it is seen before it is complete."""

    key: str
    id: str
    """What the service knows it by, also another process's."""

    unsure: bool = field(default=False, compare=False)
    """Whether the service may know another one, begun by a try that was not answered."""


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """A part that has arrived; numbers begin with 1, and the parts are in their order."""

    number: int
    size: int
    tag: str
    """What the service knows it by."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """The things that a service can do, and how much of them."""

    part_size: int
    """Bytes of each part but the last, which is smaller."""

    most_parts: int
    creates: bool = True
    """Whether ``ABSENT`` holds, of two at once, too. Asked at the start, whatever it says."""

    swaps: bool = True
    """Whether a ``Condition`` of a version does."""

    lists: bool = True
    """Whether a list has what was written before."""

    together: int = 2
    """Parts of one upload that are sent at once."""

    memory: int = 32 * 1024 * 1024
    """Bytes of parts in memory, of all uploads of a process."""

    least_rest: int | None = None
    """Bytes from which what fills no part may be one all the same, anywhere among the others; None:
    all parts but the last are equal."""

    renames: bool = False
    """Whether parts become an object of whatever key is named when they are complete, not only of
    the one for which they were begun."""

    stages: bool = False
    """Whether a move takes long, so that blobs wait for it where they arrived (staging.py); whoever
    does so creates, swaps and lists."""


def check_part_size(service: str, size: int, least: int) -> None:
    """Refuse a ``chunksize`` that is smaller than the parts that a service takes, or is worth."""
    if size < least:
        raise ConfigError(f"storage.{service}.chunksize must be at least {least}")


class Objects(Protocol):
    """Objects by key."""

    async def head(self, key: str) -> ObjectState | None:
        """Return what is told of an object, or None where there is none."""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> OpenObject | None:
        """Open an object, or the bytes from ``start`` up to ``end``; None where there is none."""

    async def put(self, key: str, content: Body, condition: Condition | None = None) -> str:
        """Write an object whole, and return its version; ``ConditionFailed`` where one fails."""

    async def delete(self, key: str, *, plain: bool = False) -> None:
        """Remove an object, with whatever only it is made of; one that is not there is no error.

        ``plain``, it was put whole: nobody needs to look what it is made of.
        """

    def list(self, prefix: str, *, shallow: bool = False) -> AsyncIterator[ObjectPage]:
        """Yield the objects whose keys begin with ``prefix``, page by page, in no order.

        ``shallow``, those with another ``/`` are not listed: their keys up to it are ``prefixes``.
        """


class Parts(Protocol):
    """Objects that come in parts."""

    async def begin(self, key: str) -> PartUpload:
        """Begin an object."""

    async def put_part(self, upload: PartUpload, number: int, content: Body) -> ObjectPart:
        """Send a part; of two with one number, the last counts."""

    async def complete(
        self, upload: PartUpload, parts: Sequence[ObjectPart], *, once: bool = False
    ) -> None:
        """Let the object be what its parts are, in place of any other; ``PartsGone``.

        ``once``, not in place of another one: that is ``PartsGone``, too.
        """

    async def abort(self, upload: PartUpload) -> None:
        """Forget the parts; no error where they are gone."""

    async def abandon(self, key: str, before: float) -> bool:
        """Abort what began to become an object of this key before a time.

        False where something that began later is still to become one.
        """

    def stale(self, prefix: str, before: float) -> AsyncIterator[PartUpload]:
        """Yield the uploads begun before a time, to keys of a prefix, that no object is made of.

        A service that removes them itself, or cannot list them, yields none.
        """


class Dialect(Objects, Parts, Protocol):
    """Everything that is asked of a service."""

    @property
    def abilities(self) -> Abilities:
        """Return what the service can do."""

    async def move(self, source: ObjectState, target: str) -> None:
        """Give an object another key, in place of any other, without its bytes passing here."""

    async def sign(self, key: str) -> str | None:
        """Return a URL by which anybody can read an object for some minutes; None: there is none.

        It sends no request: what is known of the object is known by the caller.
        """

    async def probe(self) -> None:
        """Find out that the service can be used; ``ConfigError`` says why not in one line."""

    async def aclose(self) -> None:
        """End all connections."""
