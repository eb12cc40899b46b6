# SPDX-License-Identifier: Apache-2.0
"""Verification of a store: content that is not what its digest says, images with holes.

It reads only, and the store may serve meanwhile: what looks broken is looked at again, since
somebody may have been removing it. Nothing here prints.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from buildset_registry.lookup import Lookup
from buildset_registry.manifest_links import is_linked
from buildset_registry.oci.digest import Digest, Hasher, hasher
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pacing import paced
from buildset_registry.parallel import together
from buildset_registry.progress import Progress, ProgressCallback
from buildset_registry.store.base import (
    BlobFile,
    BlobState,
    Links,
    RepositoryIndex,
    Store,
    StoredBlob,
)

#: Blobs that are hashed at once; hashing releases the GIL.
_HASHING = 2
#: Bytes that a thread hashes before it is given more.
_BATCH = 1024 * 1024
#: Seconds until what looks broken is looked at again.
_PAUSE = 1.0
#: What is wrong with a repository that another program named as nobody can ask for.
_MISNAMED = (
    "its name is not accepted, so nobody can pull from it, and all that it holds stays; copy its "
    "images to another name with the program that serves it, or remove it"
)
#: What the kernel says of a file that its disk has lost. All else may be whole: who runs this may
#: not read it, there are no descriptors left, a network file system or a service does not answer.
_LOST = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is broken: its kind, its name, and what is wrong with it."""

    kind: str
    name: str
    reason: str
    unread: bool = False
    """Whether it could not be read, and may be whole."""


@dataclass(slots=True)
class Findings:
    """The things that were looked at, counted, and the problems among them."""

    problems: list[Problem] = field(default_factory=list)
    blobs: int = 0
    size: int = 0
    repositories: int = 0
    manifests: int = 0
    tags: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


async def verify(
    store: Store, on_progress: ProgressCallback, *, sparse: bool, pause: float = _PAUSE
) -> Findings:
    """Hash every blob, and look at every link; ``sparse`` images may lack layers."""
    findings = Findings()
    damaged = await _damaged(store, on_progress, findings)
    suspects: dict[RepositoryName, set[Problem]] = {}
    names = await store.repositories()
    for number, name in enumerate(names):
        on_progress(Progress("repositories", number, len(names)))
        findings.repositories += 1
        found = {
            problem async for problem in _RepositoryCheck(store, name, findings, sparse).problems()
        }
        if found:
            suspects[name] = found
    if damaged or suspects:
        await asyncio.sleep(pause)
    for digest in damaged:
        problem = await _damage(store, digest)
        if problem is not None:
            findings.problems.append(problem)
    for name in await store.misnamed():
        told = name.encode(errors="backslashreplace").decode()
        findings.problems.append(Problem("repository", told, _MISNAMED))
    for name, found in suspects.items():
        again = {
            problem
            async for problem in _RepositoryCheck(store, name, Findings(), sparse).problems()
        }
        findings.problems += sorted(found & again, key=lambda one: (one.kind, one.name, one.reason))
    return findings


async def _damaged(store: Store, on_progress: ProgressCallback, findings: Findings) -> list[Digest]:
    """Hash all blobs; return those that are not what they should be."""
    total = 0
    async for batch in store.blobs.walk():
        total += sum(state.size for state in batch)
    damaged = []
    async for states in _groups(store):
        problems = await together(states, lambda state: _damage(store, state.digest))
        for state, problem in zip(states, problems, strict=True):
            findings.blobs += 1
            findings.size += state.size
            if problem is not None:
                damaged.append(state.digest)
        on_progress(Progress("bytes", findings.size, total))
    return damaged


async def _groups(store: Store) -> AsyncIterator[list[BlobState]]:
    async for batch in store.blobs.walk():
        for start in range(0, len(batch), _HASHING):
            yield batch[start : start + _HASHING]


async def _damage(store: Store, digest: Digest) -> Problem | None:
    """Return what is wrong with a blob; nothing is with one that is gone."""
    problem = partial(Problem, "blob", str(digest))
    blob = await store.blobs.open(digest)
    if blob is None:
        return None
    try:
        actual = await _hash(blob, digest.algorithm)
    except FileNotFoundError:
        return None
    except EOFError:
        return problem(f"it ends before its {blob.size} bytes; push it again")
    except OSError as error:
        lost = isinstance(blob, BlobFile) and error.errno in _LOST
        return problem(f"it cannot be read: {error.strerror}", unread=not lost)
    if actual == digest.hex:
        return None
    return problem(f"its content is {digest.algorithm}:{actual}, {blob.size} bytes; push it again")


async def _hash(blob: StoredBlob, algorithm: str) -> str:
    """Return the digest of a blob's content, in hexadecimal; a file is read by the thread."""
    state = hasher(algorithm)
    if isinstance(blob, BlobFile):
        await asyncio.to_thread(_read, state, blob.path)
        return state.hexdigest()
    batch: list[bytes] = []
    size = 0
    async with aclosing(blob.chunks(0, blob.size)) as pieces:
        async for piece in pieces:
            batch.append(piece)
            size += len(piece)
            if size >= _BATCH:
                await asyncio.to_thread(_update, state, batch)
                batch, size = [], 0
    await asyncio.to_thread(_update, state, batch)
    return state.hexdigest()


class _Fault(NamedTuple):
    """What is wrong with a link or an image, and whether it could not be read."""

    reason: str
    unread: bool = False


async def _target(links: Links, digest: Digest) -> tuple[Digest | None, _Fault]:
    """Return what a link leads to, and what is wrong with it where that is not what it should."""
    try:
        return await links.target(digest), _Fault("its link is damaged; push it again")
    except OSError as error:
        # What a service answers is of a class of its own, whatever its number.
        lost = error.__class__ is OSError and error.errno in _LOST
        return None, _Fault(f"its link cannot be read: {error.strerror}", unread=not lost)


def _read(state: Hasher, path: Path) -> None:
    piece = memoryview(bytearray(_BATCH))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(piece):
            state.update(piece[:size])


def _update(state: Hasher, pieces: list[bytes]) -> None:
    for piece in pieces:
        state.update(piece)


class _RepositoryCheck:
    """One look at a repository's links, tags and manifests."""

    def __init__(
        self, store: Store, name: RepositoryName, findings: Findings, sparse: bool
    ) -> None:
        self._store = store
        self._name = name
        self._findings = findings
        self._sparse = sparse

    async def problems(self) -> AsyncIterator[Problem]:
        """Yield what is broken of what was pushed; the cache heals by itself."""
        index = self._store.pushed(self._name)
        for look in (self._manifests, self._layers, self._tags):
            async for problem in look(index):
                yield problem

    async def _manifests(self, index: RepositoryIndex) -> AsyncIterator[Problem]:
        async for state in paced(await index.manifests.all()):
            self._findings.manifests += 1
            fault = await self._manifest(index, state.digest)
            if fault is not None:
                yield Problem("image", f"{self._name}@{state.digest}", *fault)

    async def _layers(self, index: RepositoryIndex) -> AsyncIterator[Problem]:
        async for state in paced(await index.layers.all()):
            target, fault = await _target(index.layers, state.digest)
            if target is None:
                yield Problem("layer", f"{self._name}@{state.digest}", *fault)

    async def _tags(self, index: RepositoryIndex) -> AsyncIterator[Problem]:
        async for tag in paced(await index.tags.all()):
            self._findings.tags += 1
            target = await index.tags.get(tag)
            if target is None:
                yield Problem("tag", f"{self._name}:{tag}", "it points nowhere; push it again")
            elif not await index.manifests.has(target.digest):
                reason = f"it points to {target.digest}, which is not here; push it again"
                yield Problem("tag", f"{self._name}:{tag}", reason)

    async def _manifest(self, index: RepositoryIndex, digest: Digest) -> _Fault | None:
        target, fault = await _target(index.manifests, digest)
        if target != digest:
            return fault
        try:
            raw = await self._store.blobs.read(digest)
        except OSError:
            return None  # the blob is named by itself
        if raw is None:
            return _Fault("its manifest is missing; push it again or delete it")
        media_type = await index.manifests.media_type(digest) or ""
        manifest = Manifest.stored(raw, media_type, digest.algorithm)
        missing = [one async for one in self._missing(index, manifest)]
        told = f"it lacks {', '.join(missing)}; push it again or delete it"
        return _Fault(told) if missing else None

    async def _missing(self, index: RepositoryIndex, manifest: Manifest) -> AsyncIterator[str]:
        """Yield the blobs that a client that pulls would not get."""
        async for blob in paced(manifest.blobs):
            target, fault = await _target(index.layers, blob.digest)
            if target is None and fault.unread:
                continue  # the link is named by itself
            if target is None and (self._sparse or await self._held(blob.digest)):
                continue
            if target is None or await self._store.blobs.size(target) is None:
                yield str(blob.digest)

    async def _held(self, digest: Digest) -> bool:
        """Tell whether a blob is there in another way: under the other name, or as a manifest."""
        for index in Lookup(self._store).indexes(self._name):
            if await is_linked(index, digest):
                return await self._store.blobs.size(digest) is not None
        return False
