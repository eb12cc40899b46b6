# SPDX-License-Identifier: Apache-2.0
"""Backups: every file as it was before it was touched, so that it can be so again, byte for byte.

They are on disk before a file changes, readable by their owner alone: files with credentials are
among them. The form of ``ledger.json`` stays: what one version of the role has written, the next
one takes back.
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
from .node import ManagedNode

_NAME = "buildset-registry-clients"


@dataclass(frozen=True)
class Backup:
    """One file: what it was, and what was made of it. Its fields are keys of the file on disk."""

    client: str
    kind: str
    before: bytes | None
    after: bytes
    mode: int | None
    """The mode that it had."""

    secret: bool
    account: str
    """The user with whose rights it is written."""

    action: str


def folder(node: ManagedNode) -> Path:
    """Tell where the backups are."""
    if node.is_root:
        return node.real(f"/var/lib/{_NAME}")
    state = os.environ.get("XDG_STATE_HOME") or f"{node.me.home}/.local/state"
    return node.real(f"{state}/{_NAME}")


class Backups:
    """The backups by path, and the folders made for files, each with the user that it is of."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file = place / "ledger.json"
        self.entries: dict[str, Backup] = {}
        self.folders: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        content = files.read(self._file)
        if content is None:
            return
        try:
            known = json.loads(content)
            self.entries = {path: _parse(value) for path, value in known["files"].items()}
            self.folders = dict(known["folders"])
        except (ValueError, KeyError, TypeError) as error:
            hint = "restore it, or remove it and mend the clients' files by hand"
            raise ClientError(f"{self._file}: damaged ({error}); {hint}") from error

    def write(self, entries: dict[str, Backup]) -> None:
        """Keep backups; without any, nothing is left of the folder."""
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


def _plain(entry: Backup) -> dict[str, Any]:
    before = None if entry.before is None else base64.b64encode(entry.before).decode()
    after = base64.b64encode(entry.after).decode()
    return {**vars(entry), "before": before, "after": after}


def _parse(value: dict[str, Any]) -> Backup:
    before = None if value["before"] is None else base64.b64decode(value["before"])
    return Backup(**{**value, "before": before, "after": base64.b64decode(value["after"])})
