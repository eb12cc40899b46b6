# SPDX-License-Identifier: Apache-2.0
"""The registry over a disk that fails: ``python -m tests.reliability.faulty FAULT serve ...``.

While the file FAULT has a word, some calls below the current storage fail as that says. ``EIO``:
to sync fails, and what was not on disk yet is lost, as the kernel forgets it (fsync(2)).
``ENOSPC``: nothing new finds room.
"""

from __future__ import annotations

import errno
import os
import random
import runpy
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: One call in so many fails.
ONE_IN = 3
#: Bytes up to which a file is in the registry's log, too, and is not lost by itself.
LOGGED = 64 * 1024


class Disk:
    """What is to fail, and what is known to be on disk: sizes by inode."""

    def __init__(self, fault: Path) -> None:
        self._fault = fault
        self._started = time.time()
        self._synced: dict[tuple[int, int], int] = {}

    def install(self) -> None:
        """Put it between the registry and the system."""
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._syncing(getattr(os, name)))
        os.pwrite = self._needing_room(os.pwrite)
        os.mkdir = self._needing_room(os.mkdir)

    def _fails(self, word: str) -> bool:
        try:
            told = self._fault.read_text()
        except OSError:
            return False
        return told == word and random.randrange(ONE_IN) == 0

    def _syncing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            state = os.fstat(descriptor)
            key = state.st_dev, state.st_ino
            if self._fails("EIO"):
                known = state.st_size if state.st_mtime < self._started else 0
                self._lose(descriptor, state, self._synced.get(key, known))
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            call(descriptor)
            self._synced[key] = state.st_size

        return sync

    def _lose(self, descriptor: int, state: os.stat_result, synced: int) -> None:
        if stat.S_ISREG(state.st_mode) and max(synced, LOGGED) < state.st_size:
            with Path(f"/proc/self/fd/{descriptor}").open("r+b") as file:
                file.seek(synced)
                file.write(bytes(state.st_size - synced))

    def _needing_room(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            if self._fails("ENOSPC"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments, **more)

        return act


if __name__ == "__main__":
    Disk(Path(sys.argv[1])).install()
    sys.argv[:2] = ["buildset-registry"]
    runpy.run_module("buildset_registry", run_name="__main__")
