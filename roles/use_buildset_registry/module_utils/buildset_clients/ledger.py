# SPDX-License-Identifier: Apache-2.0
"""What every file was before it was touched, so that it can be so again, byte for byte.

It is on disk before a file changes, readable by its owner alone: files with credentials are in it.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files
from .errors import ClientError
from .node import Node

_NAME = "buildset-registry-clients"


@dataclass(frozen=True)
class Entry:
    """One file."""

    client: str
    kind: str
    before: bytes | None
    after: bytes
    mode: int | None
    """The mode that it had."""

    secret: bool
    account: str
    """Whose rights it is written with."""

    action: str


def folder(node: Node) -> Path:
    """Tell where the ledger is."""
    if node.is_root:
        return node.real(f"/var/lib/{_NAME}")
    state = os.environ.get("XDG_STATE_HOME") or f"{node.me.home}/.local/state"
    return node.real(f"{state}/{_NAME}")


class Ledger:
    """The entries by path, and whose folders were made for them by the folders' paths."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file = place / "ledger.json"
        self.entries: dict[str, Entry] = {}
        self.folders: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        content = files.read(self._file)
        if content is None:
            return
        try:
            known = json.loads(content)
            self.entries = {path: _entry(value) for path, value in known["files"].items()}
            self.folders = dict(known["folders"])
        except (ValueError, KeyError, TypeError) as error:
            hint = "restore it, or remove it and mend the clients' files by hand"
            raise ClientError(f"{self._file}: damaged ({error}); {hint}") from error

    def write(self, entries: dict[str, Entry]) -> None:
        """Keep entries; without any, nothing is left of the ledger."""
        self.entries = entries
        if not entries:
            if self._file.exists():
                files.remove(self._file)
                self.place.rmdir()
            return
        files.make_folder(self.place, 0o700)
        known = {
            "files": {path: _plain(entry) for path, entry in sorted(entries.items())},
            "folders": self.folders,
        }
        files.write(self._file, json.dumps(known, indent=1).encode() + b"\n", 0o600)


def _plain(entry: Entry) -> dict[str, Any]:
    before = None if entry.before is None else base64.b64encode(entry.before).decode()
    after = base64.b64encode(entry.after).decode()
    return {**vars(entry), "before": before, "after": after}


def _entry(value: dict[str, Any]) -> Entry:
    before = None if value["before"] is None else base64.b64decode(value["before"])
    return Entry(**{**value, "before": before, "after": base64.b64decode(value["after"])})
