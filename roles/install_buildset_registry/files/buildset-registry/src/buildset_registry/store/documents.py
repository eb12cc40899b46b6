# SPDX-License-Identifier: Apache-2.0
"""Small documents that all processes of a registry share, beside its images; and in a folder.

An optional ability of a store: one in memory keeps none.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable


class Documents(Protocol):
    """Documents by name, each read and replaced whole; ``OSError`` says why that cannot be."""

    async def read(self, name: str) -> bytes | None:
        """Return a document as it is now, or None where there is none."""

    async def write(self, name: str, content: bytes) -> None:
        """Make or replace a document, which nobody else may read."""

    async def remove(self, name: str) -> None:
        """Remove a document; one that is not there is no error."""

    def turn(self) -> AbstractAsyncContextManager[bool]:
        """Be the one process that works on them for a while; False where another one is."""


@runtime_checkable
class KeepsDocuments(Protocol):
    """A store that keeps documents, too."""

    def documents(self, topic: str) -> Documents:
        """Return the documents of a topic."""


class FolderDocuments:
    """A file for each, in a folder that is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / name).read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def write(self, name: str, content: bytes) -> None:
        await asyncio.to_thread(self._write, name, content)

    async def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The lock ends with the process, whatever ends it.
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(made).replace(self._folder / name)
        except BaseException:
            Path(made).unlink(missing_ok=True)
            raise


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
