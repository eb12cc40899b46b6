# SPDX-License-Identifier: Apache-2.0
"""Small documents that all processes of a registry share, beside its images; and in a folder.

Whoever keeps some has a topic of its own, whose names mean what it says: what retention knows of
the past, the images that tokens keep, the certificate that ACME issued.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from buildset_registry.parallel import to_its_end
from buildset_registry.store.holders import Holders

#: The file that whoever works on the documents of a folder holds.
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document, and when it was written by the clock that stamps what is stored."""

    content: bytes
    changed: float


class Documents(Protocol):
    """The documents of a topic, by names without a slash.

    Each is replaced as a whole, and seen by all processes; of two at once, the last one counts.
    ``OSError`` says why one cannot be read, or kept.
    """

    async def read(self, name: str) -> StoredDocument | None:
        """Return a document as it is now, or None where there is none."""

    async def write(self, name: str, content: bytes) -> None:
        """Make or replace a document."""

    async def remove(self, name: str) -> None:
        """Remove a document; one that is not there is no error."""

    async def names(self) -> list[str]:
        """Return the names of all documents, in no order."""

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """Be the one who works on them for a while; False where somebody else is."""


class Records(Protocol):
    """The things that a store knows beside its content."""

    @property
    def holders(self) -> Holders:
        """Return what remembers where blobs were linked; each link that is made is added."""

    def documents(self, topic: str, *, secret: bool = False) -> Documents:
        """Return the documents of a topic; ``secret`` ones are for the registry's user alone."""


async def read_content(documents: Documents, name: str) -> bytes | None:
    """Return what a document says, or None where there is none."""
    found = await documents.read(name)
    return None if found is None else found.content


class FolderDocuments:
    """A file for each, in a folder that is made when the first is written.

    ``secret`` ones are for the registry's user alone. What is on its way is in ``temporary``, on
    the same filesystem, where a restart looks for what a killed process left; or beside them.
    """

    def __init__(
        self, folder: Path, *, secret: bool = False, temporary: Path | None = None
    ) -> None:
        self._folder = folder
        self._modes = (0o700, 0o600) if secret else (0o777, 0o666)
        self._temporary = temporary or folder

    async def read(self, name: str) -> StoredDocument | None:
        return await asyncio.to_thread(self._read, name)

    async def write(self, name: str, content: bytes) -> None:
        # What a cancelled one still wrote would take the place of what is written next.
        await to_its_end(asyncio.to_thread(self._write, name, content))

    async def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    async def names(self) -> list[str]:
        return await asyncio.to_thread(self._names)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        self._make()
        # The lock ends with the process, whatever ends it.
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> StoredDocument | None:
        try:
            with (self._folder / name).open("rb") as file:
                return StoredDocument(file.read(), os.fstat(file.fileno()).st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _names(self) -> list[str]:
        try:
            found = [path.name for path in self._folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in found if name != _LOCK and not name.startswith(".")]

    def _write(self, name: str, content: bytes) -> None:
        self._make()
        made = self._temporary / f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._modes[1])
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            made.replace(self._folder / name)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        _sync_folder(self._folder)

    def _make(self) -> None:
        """Make the folder, and those above it, by whose own syncs it is durable."""
        missing = [one for one in (self._folder, *self._folder.parents) if not one.exists()]
        self._folder.mkdir(mode=self._modes[0], parents=True, exist_ok=True)
        for one in missing:
            _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
