# SPDX-License-Identifier: Apache-2.0
"""Leases of images: what a token for single images names stays until the token ends.

A document for each image, whose name tells for how long: one list tells of all leases, and no two
replicas write the same document in different ways. Ends are rounded up to the hour, and a lease
takes the place of an earlier end: whoever asks for tokens again and again keeps one small document
for each tag and digest that is there.

It is written before the token is handed out; then the content is promised and the image is used. So
of a token and a removal at once, one sees the other: the removal spares what is promised, used or
leased, or the image is gone before anybody has the token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from buildset_registry.background import stop, supervised
from buildset_registry.errors import RegistryError
from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import Reference, RepositoryName, Tag
from buildset_registry.pacing import paced, spread
from buildset_registry.retention.timeline import minute
from buildset_registry.store.base import Contents, RepositoryIndex, Store, TagTarget

_log = logging.getLogger("buildset_registry.retention")

#: The topic of the documents.
TOPIC = "leases"
#: Seconds to which ends are rounded up.
_STEP = 3600
#: Seconds for which a token waits until its leases are written, and between two rounds of those
#: that could not be written.
_PATIENCE = 5.0
_ROUND = 10.0
#: Seconds between two looks at what somebody removes, and how often that is looked at.
_PAUSE = 0.1
_TRIES = 50
#: Leases that are remembered, and those that may wait for a storage that takes none.
_REMEMBERED = 50_000
_MOST = 10_000
_DOCUMENT = re.compile(r"([0-9a-f]{32})-(\d{1,12})-(\d{1,12})")

#: A repository, and a tag or a digest of it.
LeasedImage = tuple[RepositoryName, Reference]
#: Tells for how many seconds the registry has run since a time.
Age = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class ImageLease:
    """A lease of an image, in seconds since the epoch."""

    key: str
    since: int
    until: int

    @property
    def document(self) -> str:
        """The name of its document."""
        return f"{self.key}-{self.since}-{self.until}"

    @classmethod
    def of_document(cls, name: str) -> ImageLease | None:
        """Return the lease that a document is; None for another document."""
        found = _DOCUMENT.fullmatch(name)
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    def holds(self, age: Age) -> bool:
        """Tell whether it is not over, in the time in which the registry ran."""
        return age(self.since) < self.until - self.since


class LeasedImages:
    """The images that are leased at a time, and until when, in seconds since the epoch."""

    def __init__(self, until: Mapping[str, float] | None = None) -> None:
        self._until = until or {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._until)

    def until(self, name: RepositoryName, reference: Reference) -> float:
        """Return until when an image is leased; 0 where it is not."""
        return self._until.get(_key(name, reference), 0.0)

    def of(
        self, name: RepositoryName, digests: Iterable[Digest], tags: Mapping[Tag, TagTarget]
    ) -> dict[Digest, float]:
        """Return the manifests of a repository that are leased by their digest or a tag."""
        if not self._until:
            return {}
        found = {one: until for one in digests if (until := self.until(name, one))}
        for tag, target in tags.items():
            until = max(self.until(name, tag), found.get(target.digest, 0.0))
            if until:
                found[target.digest] = until
        return found


class Leases:
    """The leases of a store."""

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._contents: Contents = store
        self._documents = store.documents(TOPIC)
        self._now = now
        self._known: Latest[str, ImageLease] = Latest(_REMEMBERED)
        self._waiting: dict[LeasedImage, tuple[int, int]] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._failing = self._crowded = False

    def start(self) -> None:
        """Begin to write what could not be written at once."""
        self._task = supervised("writing leases of images", self._run)

    async def close(self) -> None:
        """Write the rest."""
        if self._task is not None:
            await stop(self._task)
        rest = asyncio.ensure_future(self._write([*self._waiting]))
        _done, late = await asyncio.wait([*self._writing, rest], timeout=_PATIENCE)
        for task in late:
            await stop(task)

    async def take(self, images: Iterable[LeasedImage], seconds: float) -> None:
        """Keep images for so many seconds, those that are there.

        It returns when that is written. A storage that is full, or does not answer, keeps nobody
        from a token: then it is written later, and until then this process alone knows it.
        """
        since = int(self._now())
        until = math.ceil((since + seconds) / _STEP) * _STEP
        wanted = [one for one in images if not self._is_known(one, until)]
        if not wanted:
            return
        refused = sum(not self._wait(image, since, until) for image in wanted)
        if refused and not self._crowded:
            _log.error(
                "%d leases of images wait for the storage already: what further tokens name may be "
                "removed before these end",
                len(self._waiting),
            )
        self._crowded = bool(refused)
        writing = asyncio.ensure_future(self._write(wanted))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait([writing], timeout=_PATIENCE)

    async def active(self, age: Age) -> LeasedImages:
        """Return what is leased now, by whichever replica."""
        until: dict[str, float] = {}
        waiting = [
            ImageLease(_key(one, reference), *times)
            for (name, reference), times in self._waiting.items()
            for one in name.names
        ]
        async for lease in paced([*await self._written(), *self._known.values(), *waiting]):
            if lease.holds(age):
                until[lease.key] = max(lease.until, until.get(lease.key, 0.0))
        return LeasedImages(until)

    async def prune(self, age: Age) -> None:
        """Forget leases that are over, and those that another one has taken the place of."""
        latest: dict[str, ImageLease] = {}
        written = await self._written()
        for lease in written:
            if lease.holds(age):
                other = latest.setdefault(lease.key, lease)
                latest[lease.key] = max(other, lease, key=lambda one: (one.until, one.since))
        old = [one for one in written if latest.get(one.key) != one]
        for lease in old:
            if self._known.get(lease.key) == lease:
                del self._known[lease.key]
        await spread(old, lambda lease: self._documents.remove(lease.document))

    async def _written(self) -> list[ImageLease]:
        found = map(ImageLease.of_document, await self._documents.names())
        return [one for one in found if one is not None]

    def _wait(self, image: LeasedImage, since: int, until: int) -> bool:
        """Note what is to be written, if there is room; the latest end counts."""
        before = self._waiting.get(image)
        if before is None and len(self._waiting) >= _MOST:
            return False
        if before is None or before[1] < until:
            self._waiting[image] = (since, until)
        return True

    def _is_known(self, image: LeasedImage, until: int) -> bool:
        name, reference = image
        known = (self._known.get(_key(one, reference)) for one in name.names)
        return any(one is not None and one.until >= until for one in known)

    async def _write(self, images: Iterable[LeasedImage]) -> None:
        """Write leases that wait; those that cannot be written go on waiting."""
        failures: list[OSError | RegistryError] = []

        async def write(image: LeasedImage) -> None:
            times = self._waiting.get(image)
            if times is None:
                return
            try:
                await self._lease(image, *times)
            except (OSError, RegistryError) as error:
                failures.append(error)
                return
            if self._waiting.get(image) == times:
                del self._waiting[image]

        await spread(list(images), write)
        if failures and not self._failing:
            _log.error("leases of images cannot be written: %s; tokens go on", failures[0])
        self._failing = bool(failures)

    async def _lease(self, image: LeasedImage, since: int, until: int) -> None:
        """Lease an image where it is; the order of the steps is what a removal beside it needs."""
        name, reference = image
        for one in name.names:
            index = self._contents.pushed(one)
            digest = await _target(index, reference)
            if digest is None:
                continue
            lease = ImageLease(_key(one, reference), since, until)
            told = {"image": _told(one, reference), "until": minute(until)}
            await self._documents.write(lease.document, json.dumps(told).encode())
            before = self._remember(lease)
            await self._promise(index, digest)
            if before is not None and before != lease:
                await self._documents.remove(before.document)

    async def _promise(self, index: RepositoryIndex, digest: Digest) -> None:
        """Promise a manifest and use it, or wait until somebody who removes it is done."""
        for _try in range(_TRIES):
            if await self._contents.blobs.keep(digest, promised=False) is not None:
                await index.manifests.use(digest)
                return
            if not await index.manifests.has(digest):
                return
            await asyncio.sleep(_PAUSE)

    def _remember(self, lease: ImageLease) -> ImageLease | None:
        """Remember a lease that was written; return the one whose place it has taken."""
        before = self._known.get(lease.key)
        if before is not None and before.until > lease.until:
            return None
        self._known[lease.key] = lease
        return before

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_ROUND)
            await self._write([*self._waiting])


async def _target(index: RepositoryIndex, reference: Reference) -> Digest | None:
    """Return the manifest that is named, if it is there."""
    if isinstance(reference, Digest):
        return reference if await index.manifests.has(reference) else None
    found = await index.tags.get(reference)
    return None if found is None else found.digest


def _told(name: RepositoryName, reference: Reference) -> str:
    return f"{name}@{reference}" if isinstance(reference, Digest) else f"{name}:{reference}"


def _key(name: RepositoryName, reference: Reference) -> str:
    """Return what stands for an image in the name of a document."""
    return hashlib.sha256(_told(name, reference).encode()).hexdigest()[:32]
