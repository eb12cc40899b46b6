# SPDX-License-Identifier: Apache-2.0
"""A repository's links in files: layers, manifests, tags, referrers; and the walk over all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from buildset_registry.errors import RegistryError
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.store import layout
from buildset_registry.store.base import TagTarget
from buildset_registry.store.disk import Disk


class FileLinks:
    """``<folder>/<algorithm>/<hex>/link``."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk

    async def has(self, digest: Digest) -> bool:
        return _present(layout.link(self._folder, digest))

    async def target(self, digest: Digest) -> Digest | None:
        return read_link(layout.link(self._folder, digest))

    async def add(self, digest: Digest) -> None:
        await asyncio.to_thread(write_link, self._disk, self._folder, digest)

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

    def __init__(self, repository: Path, disk: Disk) -> None:
        self._repository = repository
        self._disk = disk

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
        folder = layout.tags(self._repository) / tag
        return await asyncio.to_thread(self._disk.remove_tree, folder)

    async def all(self) -> list[Tag]:
        return await asyncio.to_thread(self._all)

    def _set(self, tag: Tag, digest: Digest) -> None:
        write_link(self._disk, layout.tag_index(self._repository, tag), digest)
        self._disk.write(layout.tag_link(self._repository, tag), str(digest).encode())

    def _all(self) -> list[Tag]:
        folder = layout.tags(self._repository)
        return sorted(
            Tag(entry.name)
            for entry in _entries(folder)
            if _present(layout.tag_link(self._repository, Tag(entry.name)))
        )


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

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self.layers = FileLinks(layout.layers(folder), disk)
        self.manifests = FileManifests(layout.revisions(folder), disk)
        self.tags = FileTags(folder, disk)
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


def walk_repositories(root: Path) -> list[RepositoryName]:
    """Find every folder that holds a repository's links, in lexical order of the names."""
    return sorted(RepositoryName(name) for name in _walk(root, ""))


def _walk(folder: Path, name: str) -> Iterator[str]:
    children = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if name and not {layout.MANIFESTS, layout.LAYERS, layout.UPSTREAM}.isdisjoint(children):
        yield name
    for child in children:
        if not child.startswith("_"):
            yield from _walk(folder / child, f"{name}/{child}" if name else child)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
