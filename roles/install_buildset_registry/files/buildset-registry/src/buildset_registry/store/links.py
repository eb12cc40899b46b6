# SPDX-License-Identifier: Apache-2.0
"""A repository's links in files: layers, manifests, tags, referrers; and the walk over all."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from buildset_registry.errors import NameInvalid, RegistryError, TagInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store import layout
from buildset_registry.store.base import TagTarget
from buildset_registry.store.disk import Disk
from buildset_registry.store.listings import Listings

_PARTS = frozenset({layout.MANIFESTS, layout.LAYERS, layout.UPSTREAM})


def _unlisted() -> None:
    """Tell nobody of a new link."""


class FileLinks:
    """``<folder>/<algorithm>/<hex>/link``."""

    def __init__(self, folder: Path, disk: Disk, listed: Callable[[], None] = _unlisted) -> None:
        self._folder = folder
        self._disk = disk
        self._listed = listed

    async def has(self, digest: Digest) -> bool:
        return _present(layout.link(self._folder, digest))

    async def target(self, digest: Digest) -> Digest | None:
        return read_link(layout.link(self._folder, digest))

    async def add(self, digest: Digest) -> None:
        await asyncio.to_thread(self._add, digest)

    def _add(self, digest: Digest) -> None:
        write_link(self._disk, self._folder, digest)
        self._listed()

    async def remove(self, digest: Digest) -> bool:
        folder = layout.link(self._folder, digest).parent
        return await asyncio.to_thread(self._disk.remove_tree, folder)


class FileManifests(FileLinks):
    """Links to manifests, with ``media-type`` beside a link whose bytes do not tell it."""

    async def media_type(self, digest: Digest) -> str | None:
        try:
            return layout.media_type(self._folder, digest).read_text()
        except FileNotFoundError:
            return None

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        path = layout.media_type(self._folder, digest)
        await asyncio.to_thread(self._disk.write, path, media_type.encode())


class FileTags:
    """``_manifests/tags/<tag>/{current,index}``."""

    def __init__(self, repository: Path, disk: Disk, lists: Listings[Tag]) -> None:
        self._repository = repository
        self._disk = disk
        self._lists = lists

    async def get(self, tag: Tag) -> TagTarget | None:
        path = layout.tag_link(self._repository, tag)
        try:
            with path.open() as file:
                return TagTarget(Digest.parse(file.read()), os.fstat(file.fileno()).st_mtime)
        except (FileNotFoundError, RegistryError):
            return None

    async def set(self, tag: Tag, digest: Digest) -> None:
        await asyncio.to_thread(self._set, tag, digest)

    async def remove(self, tag: Tag) -> bool:
        return await asyncio.to_thread(self._remove, tag)

    async def all(self) -> Sequence[Tag]:
        folder = layout.tags(self._repository)
        known = self._lists.known(folder)
        if known is not None:
            return known
        return await asyncio.to_thread(self._lists.read, folder, self._scan)

    def _set(self, tag: Tag, digest: Digest) -> None:
        write_link(self._disk, layout.tag_index(self._repository, tag), digest)
        path = layout.tag_link(self._repository, tag)
        self._disk.write(path, str(digest).encode())
        self._lists.changed(layout.tags(self._repository), tag, path.exists)

    def _remove(self, tag: Tag) -> bool:
        folder = layout.tags(self._repository)
        removed = self._disk.remove_tree(folder / tag)
        self._lists.changed(folder, tag, layout.tag_link(self._repository, tag).exists)
        return removed

    def _scan(self) -> Iterator[Tag]:
        """Find the tags; what is no tag's name was put there by nobody whom we know."""
        for entry in _entries(layout.tags(self._repository)):
            with contextlib.suppress(TagInvalid):
                tag = Tag.parse(entry.name)
                if _present(layout.tag_link(self._repository, tag)):
                    yield tag


class FileReferrers:
    """``_referrers/<subject>/<referrer>/link``."""

    def __init__(self, repository: Path, disk: Disk) -> None:
        self._repository = repository
        self._disk = disk

    def _links(self, subject: Digest) -> FileLinks:
        return FileLinks(layout.referrers(self._repository, subject), self._disk)

    async def add(self, subject: Digest, digest: Digest) -> None:
        await self._links(subject).add(digest)

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        return await self._links(subject).remove(digest)

    async def of(self, subject: Digest) -> list[Digest]:
        folder = layout.referrers(self._repository, subject)
        return sorted(
            (
                Digest(algorithm.name, entry.name)
                for algorithm in _entries(folder)
                for entry in _entries(folder / algorithm.name)
                if _present(folder / algorithm.name / entry.name / "link")
            ),
            key=str,
        )


class FileRepository:
    """One repository's links, below its own folder or below its ``_upstream``."""

    def __init__(
        self, folder: Path, disk: Disk, lists: Listings[Tag], listed: Callable[[], None]
    ) -> None:
        self._folder = folder
        self.layers = FileLinks(layout.layers(folder), disk, listed)
        self.manifests = FileManifests(layout.revisions(folder), disk, listed)
        self.tags = FileTags(folder, disk, lists)
        self.referrers = FileReferrers(folder, disk)

    async def exists(self) -> bool:
        return any(_present(self._folder / part) for part in (layout.MANIFESTS, layout.LAYERS))


def _present(path: Path) -> bool:
    return path.exists()


def read_link(path: Path) -> Digest | None:
    """Return the digest that a link names; None where there is no link, or nothing in it."""
    try:
        return Digest.parse(path.read_text())
    except (FileNotFoundError, RegistryError):
        return None


def write_link(disk: Disk, folder: Path, digest: Digest) -> None:
    """Make a link; one that is there already is made durable."""
    path = layout.link(folder, digest)
    if path.exists():
        disk.settle(path)
    else:
        disk.write(path, str(digest).encode())


def is_repository(folder: Path) -> bool:
    """Tell whether a folder holds a repository's links."""
    return any(_present(folder / part) for part in _PARTS)


def walk_repositories(folder: Path, name: str = "") -> Iterator[RepositoryName]:
    """Find every folder that holds a repository's links, the ones inside others too."""
    children = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if name and not _PARTS.isdisjoint(children):
        with contextlib.suppress(NameInvalid):
            yield RepositoryName.parse(name)
    for child in children:
        if not child.startswith("_"):
            yield from walk_repositories(folder / child, f"{name}/{child}" if name else child)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
