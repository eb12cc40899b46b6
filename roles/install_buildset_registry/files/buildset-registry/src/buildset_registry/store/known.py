# SPDX-License-Identifier: Apache-2.0
"""What was read of small files a short while ago: what is asked again costs no system call.

This process alone changes the storage, and tells of each change after it made it (``disk.py``). A
value that was read meanwhile is given to who asked, and not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

Value = TypeVar("Value")

#: Files; past this many, all are forgotten. Some 400 bytes each.
_MOST = 8192


class Known:
    """Values by the names of the files that they were read from; for any thread."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._values: dict[str, object] = {}
        self._changes = 0
        self._lock = Lock()

    def get(self, name: str, read: Callable[[str], Value]) -> Value:
        """Return what ``read`` gives for a file; one file is always read by the same."""
        try:
            return self._values[name]  # type: ignore[return-value]  # what ``read`` gave
        except KeyError:
            changes = self._changes
        value = read(name)
        with self._lock:
            if changes == self._changes:
                if len(self._values) >= self._most:
                    self._values.clear()
                self._values[name] = value
        return value

    def changed(self, name: str) -> None:
        """Forget a file that was made, replaced or touched."""
        with self._lock:
            self._changes += 1
            self._values.pop(name, None)

    def removed(self) -> None:
        """Forget everything: a folder is gone, with whatever was in it."""
        with self._lock:
            self._changes += 1
            self._values.clear()
