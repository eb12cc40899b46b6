# SPDX-License-Identifier: Apache-2.0
"""A repository's links in files: layers, manifests, tags, referrers; and the walk over all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildset_registry.errors import DigestInvalid, NameInvalid, RegistryError, TagInvalid
from buildset_registry.oci.descriptor import Descriptor
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.pacing import aside
from buildset_registry.parallel import all_of
from buildset_registry.store.base import LinkState, TagTarget
from buildset_registry.store.filesystem import layout
from buildset_registry.store.filesystem.caches import ListCache
from buildset_registry.store.filesystem.disk import Disk
from buildset_registry.store.filesystem.files import read_file

_PARTS = frozenset({layout.MANIFESTS, layout.LAYERS, layout.UPSTREAM})
#: A use of a link is noted when the last one noted is older than this.
_NOTED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class LinkContext:
    """The things that the links of one repository have in common."""

    disk: Disk
    changed: Callable[[], None]
    """Called after a link was made or removed: the repository may be a new one, or hold nothing."""

    linked: Callable[[Digest], None]
    """Told of each link that is made."""

    tracked: bool
    """Whether asking for a link counts as using it."""


class FileRepository:
    """One repository's links, below its own folder or below its ``_upstream``."""

    def __init__(self, folder: Path, context: LinkContext, tags: ListCache[Tag]) -> None:
        self._folder = folder
        self.layers = FileLinks(layout.layers(folder), context)
        self.manifests = FileManifests(layout.revisions(folder), context)
        self.tags = FileTags(folder, context, tags)
        self.referrers = FileReferrers(folder, context)

    async def exists(self) -> bool:
        return _has_links(self._folder)


class FileLinks:
    """``<folder>/<algorithm>/<hex>/link``; its time is when it was last used."""

    def __init__(self, folder: Path, context: LinkContext) -> None:
        self._folder = folder
        self._name = str(folder)
        self._context = context
        self._disk = context.disk

    async def has(self, digest: Digest) -> bool:
        name = layout.link_name(self._name, digest)
        found = self._disk.read(name)
        if found is None:
            return False
        if self._context.tracked and time.time() - found[1] > _NOTED_SECONDS:
            # A disk that has come to be read-only is still good to pull from.
            with contextlib.suppress(OSError):
                self._disk.touch(name)
        return True

    async def target(self, digest: Digest) -> Digest | None:
        return read_link(layout.link(self._folder, digest))

    async def add(self, digest: Digest, target: Digest | None = None) -> None:
        try:
            await write_link(self._disk, layout.link_name(self._name, digest), target or digest)
            self._context.linked(digest)
        finally:
            self._context.changed()

    async def use(self, digest: Digest) -> bool:
        return self._disk.touch(layout.link_name(self._name, digest))

    async def remove(self, digest: Digest) -> bool:
        try:
            return await self._disk.remove_tree(layout.link(self._folder, digest).parent)
        finally:
            self._context.changed()

    async def all(self) -> list[LinkState]:
        return await asyncio.to_thread(self._all)

    async def expire(self, digest: Digest, used_before: float) -> bool:
        path = layout.link(self._folder, digest)

        def unused() -> bool:
            return _is_there(path) and path.stat().st_mtime < used_before

        return await self._remove_if(path, unused)

    async def prune(self, digest: Digest) -> bool:
        path = layout.link(self._folder, digest)

        def dangling() -> bool:
            target = read_link(path)
            return target is None or not _is_there(layout.blob(self._disk.storage, target))

        return await self._remove_if(path, dangling)

    async def _remove_if(self, link: Path, unwanted: Callable[[], bool]) -> bool:
        try:
            return await self._disk.remove_if(link.parent, unwanted)
        finally:
            self._context.changed()

    def _all(self) -> list[LinkState]:
        """List them all, or fail: what a collection does not see, it removes the content of."""
        found = []
        for algorithm in _entries(self._folder):
            for entry in _entries(self._folder / algorithm.name):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, DigestInvalid):
                    digest = Digest.parse(f"{algorithm.name}:{entry.name}")
                    used = layout.link(self._folder, digest).stat().st_mtime
                    found.append(LinkState(digest, used))
        return found


class FileManifests(FileLinks):
    """Links to manifests, with ``media-type`` beside a link whose bytes do not tell it."""

    async def media_type(self, digest: Digest) -> str | None:
        found = self._disk.read(layout.media_type_name(self._name, digest))
        return found[0].decode("latin-1") if found else None

    async def set_media_type(self, digest: Digest, media_type: str) -> None:
        await self._disk.write(layout.media_type_name(self._name, digest), media_type.encode())

    async def remains(self, digest: Digest) -> bool:
        return self._disk.read(layout.link_name(self._name, digest)) is not None


class FileTags:
    """``_manifests/tags/<tag>/{current,index}``."""

    def __init__(self, repository: Path, context: LinkContext, lists: ListCache[Tag]) -> None:
        self._folder = layout.tags(repository)
        self._name = str(self._folder)
        self._context = context
        self._disk = context.disk
        self._lists = lists

    async def get(self, tag: Tag) -> TagTarget | None:
        found = self._disk.read(layout.tag_link_name(self._name, tag))
        if found is None:
            return None
        try:
            return TagTarget(Digest.parse(found[0].decode("latin-1")), found[1])
        except RegistryError:
            return None

    async def set(self, tag: Tag, digest: Digest) -> None:
        index = layout.link_name(layout.tag_index_name(self._name, tag), digest)
        # One may fail and the other not: what is listed goes by what is there in the end.
        try:
            await all_of(
                write_link(self._disk, index, digest),
                self._disk.write(layout.tag_link_name(self._name, tag), str(digest).encode()),
            )
        finally:
            self._changed(tag)

    async def remove(self, tag: Tag) -> bool:
        try:
            return await self._disk.remove_tree(self._folder / tag)
        finally:
            self._changed(tag)

    async def all(self) -> Sequence[Tag]:
        tags = self._lists.get(self._folder)
        if tags is not None:
            return tags
        return await asyncio.to_thread(self._lists.read, self._folder, self._scan)

    async def of(self, digest: Digest) -> Sequence[Tag]:
        return await self.all()  # to read a link is cheap, and who asks does it in any case

    async def expire(self, tag: Tag, target: TagTarget) -> bool:
        link = layout.tag_link_name(self._name, tag)
        expected = (str(target.digest).encode(), target.checked)
        try:
            return await self._disk.remove_if(
                self._folder / tag, lambda: read_file(link) == expected
            )
        finally:
            self._changed(tag)

    async def restore(self, tag: Tag, digest: Digest) -> None:
        if await self.get(tag) is None:
            await self.set(tag, digest)

    async def prune(self, before: float) -> int:
        return 0  # what has no link is not listed

    def _changed(self, tag: Tag) -> None:
        self._lists.changed(self._folder, tag, partial(self._is_tag, tag))
        self._context.changed()

    def _scan(self) -> Iterator[Tag]:
        """Yield the tags; what has no tag's name was put there by another program."""
        for entry in _entries(self._folder):
            with contextlib.suppress(TagInvalid):
                tag = Tag.parse(entry.name)
                if self._is_tag(tag):
                    yield tag

    def _is_tag(self, tag: Tag) -> bool:
        return _is_there(layout.tag_link_name(self._name, tag))


class FileReferrers:
    """``_referrers/<subject>/<referrer>/{link,descriptor}``."""

    def __init__(self, repository: Path, context: LinkContext) -> None:
        self._repository = repository
        self._context = context

    def _links(self, subject: Digest) -> FileLinks:
        return FileLinks(layout.referrers(self._repository, subject), self._context)

    async def add(self, subject: Digest, digest: Digest) -> None:
        await self._links(subject).add(digest)

    async def remove(self, subject: Digest, digest: Digest) -> bool:
        return await self._links(subject).remove(digest)

    async def note(self, subject: Digest, digest: Digest, descriptor: Descriptor) -> None:
        content = json.dumps(descriptor.to_json(), separators=(",", ":")).encode()
        await self._context.disk.write(self._note(subject, digest), content)

    async def noted(self, subject: Digest, digest: Digest) -> Descriptor | None:
        # Not by the cache of small files: a note may have many annotations.
        found = read_file(self._note(subject, digest))
        if found is None:
            return None
        try:
            return Descriptor.parse(await aside(len(found[0]), partial(json.loads, found[0])), "")
        except (ValueError, RegistryError):
            return None

    def _note(self, subject: Digest, digest: Digest) -> str:
        return layout.descriptor_name(str(layout.referrers(self._repository, subject)), digest)

    async def of(self, subject: Digest) -> list[Digest]:
        return await asyncio.to_thread(self._of, layout.referrers(self._repository, subject))

    def _of(self, folder: Path) -> list[Digest]:
        return sorted(
            (
                Digest(algorithm.name, entry.name)
                for algorithm in _entries(folder)
                for entry in _entries(folder / algorithm.name)
                if _is_there(folder / algorithm.name / entry.name / "link")
            ),
            key=str,
        )


def read_link(path: Path) -> Digest | None:
    """Return the digest that a link names; None where there is no link, or nothing in it.

    One that cannot be read now, for want of a descriptor or by a fault of the disk, is an error:
    who takes it for none may remove what it leads to.
    """
    try:
        found = read_file(path)
        return None if found is None else Digest.parse(found[0].decode("latin-1"))
    except RegistryError:
        return None


async def write_link(disk: Disk, name: str, target: Digest) -> None:
    """Make a link; one that is there already is durable, and made new to the collector.

    One that names something else is damaged, or older than what is linked now.
    """
    content = str(target).encode()
    found = disk.read(name)
    if found is None or found[0] != content or not disk.touch(name):
        await disk.write(name, content)


def is_repository(folder: Path) -> bool:
    """Tell whether a folder holds a repository's links; empty folders do not count."""
    return _has_links(folder) or _has_links(layout.upstream(folder))


def _has_links(folder: Path) -> bool:
    """Tell whether there is a link to a layer or a manifest, or a tag."""
    linked = (layout.layers(folder), layout.revisions(folder))
    by_digest = (Path(one) for part in linked for one in _entries(part))
    return any(_has_link(one, "link") for one in by_digest) or _has_link(
        layout.tags(folder), "current/link"
    )


def _has_link(folder: Path, link: str) -> bool:
    """Look for a folder inside that has the link, up to the first one."""
    try:
        with os.scandir(folder) as entries:
            return any(_is_there(f"{entry.path}/{link}") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def walk_repositories(root: Path) -> Iterator[RepositoryName]:
    """Find every folder that holds a repository's links, the ones inside others too."""
    for name, children in walk(root):
        if not _PARTS.isdisjoint(children) and is_repository(root / name):
            yield name


def walk_misnamed(root: Path) -> Iterator[RepositoryName]:
    """Find every folder that holds links as a repository does, and has no repository's name."""
    for name, children in _folders(root):
        if not _PARTS.isdisjoint(children) and is_repository(root / name):
            try:
                RepositoryName.parse(name)
            except NameInvalid:
                yield RepositoryName(name)


def walk(root: Path) -> Iterator[tuple[RepositoryName, set[str]]]:
    """Find every folder that could be a repository's, and the names of the folders in it."""
    for name, children in _folders(root):
        with contextlib.suppress(NameInvalid):
            yield RepositoryName.parse(name), children


def _folders(folder: Path, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Find every folder that may be one of repositories, and the names of the folders in it."""
    children = {entry.name for entry in _entries(folder) if entry.is_dir()}
    if name:
        yield name, children
    for child in children:
        if not child.startswith("_"):
            yield from _folders(folder / child, f"{name}/{child}" if name else child)


def _is_there(path: Path | str) -> bool:
    """Tell whether something is there; an error where that is not known, as ``Path.exists`` hides.

    A loop of links is one of these errors.
    """
    try:
        os.stat(path)  # noqa: PTH116  # it may be a text
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
