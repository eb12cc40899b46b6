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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import files
from .errors import ClientError, cannot
from .node import ManagedNode

_NAME = "buildset-registry-clients"
_FILE = "ledger.json"
#: Fields of a backup that version 0.1 does not know; and those that are contents of the file.
_NEWER = ("former", "given")
_CONTENTS = ("before", "after", "former")


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
    former: bytes | None = None
    """What an earlier run had made of it, until a later one has ended."""

    given: int | None = None
    """The mode that it was given."""


@dataclass(frozen=True)
class State:
    """All that is remembered."""

    entries: Mapping[str, Backup] = field(default_factory=dict)
    """The backups by the names of the files that links lead to."""

    folders: Mapping[str, str] = field(default_factory=dict)
    """The folders made for files, each with the user that it is of."""

    actions: Mapping[str, str] = field(default_factory=dict)
    """What clients have still to do, to take what is in their files: ``reload`` or ``restart``."""


def folder(node: ManagedNode) -> Path:
    """Tell where the backups are. A variable does not decide for new ones: tasks that are run
    another way, by sudo or without a login, would not find them again."""
    if node.is_root:
        return node.real(f"/var/lib/{_NAME}")
    states = [os.environ.get("XDG_STATE_HOME", ""), f"{node.me.home}/.local/state"]
    places = [node.real(f"{state}/{_NAME}") for state in states if state.startswith("/")]
    return next((place for place in places if (place / _FILE).exists()), places[-1])


class Backups:
    """The state on disk, in a folder that is there as long as there is something to remember."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file = place / _FILE
        self.state = self._read()

    def _read(self) -> State:
        content = files.read(self._file)
        if content is None:
            return State()
        try:
            known = json.loads(content)
            entries = {path: _parse(value) for path, value in known["files"].items()}
            return State(entries, dict(known["folders"]), dict(known.get("actions", {})))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = getattr(error, "msg", "not of the form that this role writes")
            hint = "restore it, or remove it and mend the clients' files by hand"
            raise ClientError(f"{self._file}: damaged ({reason}); {hint}") from error

    def write(self, state: State) -> None:
        """Keep a state; without a file or an action in it, nothing is left of the folder."""
        try:
            if state.entries or state.actions:
                self.state = self._keep(state)
            else:
                self.state = self._remove(state)
        except OSError as error:
            raise cannot("write", str(self._file), error) from error

    def tidy(self) -> None:
        """Remove what a run that was killed has left without anything to remember in it."""
        self._sweep()
        if self.place.exists() and not (self.state.entries or self.state.actions):
            self.write(self.state)

    def _keep(self, state: State) -> State:
        missing = files.missing_folders(self.place)
        above = {str(path): "" for path in missing[1:]}
        kept = replace(state, folders={**state.folders, **above})
        known = {
            "files": {path: _plain(entry) for path, entry in sorted(kept.entries.items())},
            "folders": dict(kept.folders),
            **({"actions": dict(kept.actions)} if kept.actions else {}),
        }
        content = json.dumps(known, indent=1).encode() + b"\n"
        try:
            self._make(missing[-1], content) if missing else files.write(self._file, content, 0o600)
        except OSError:
            if not self._file.exists():
                self._remove(kept)
            raise
        return kept

    def _make(self, top: Path, content: bytes) -> None:
        """Make the folders from one on, which appear at once with what tells whose they are."""
        self._sweep()
        staged = files.beside(top)
        inner = staged / files.real(self.place).relative_to(top)
        try:
            files.make_folder(inner, 0o700)
            files.write(inner / _FILE, content, 0o600)
            files.move(staged, top)
        except OSError:
            _discard(staged)
            raise

    def _remove(self, state: State) -> State:
        """Remove the folder, and those above it that were made for it, all at once."""
        if not self.place.exists():
            return State()
        files.remove_staged(self._file)
        top = files.real(self.place)
        if set(top.iterdir()) <= {top / _FILE}:
            while str(top.parent) in state.folders and list(top.parent.iterdir()) == [top]:
                top = top.parent
            staged = files.beside(top)
            files.move(top, staged)
            _discard(staged)
        else:  # somebody has put something there
            files.remove(self._file)
        return State()

    def _sweep(self) -> None:
        """Remove folders that a run has not given their name, or has taken it from."""
        place = files.real(self.place)
        for path in (place, *place.parents[:-1]):
            _discard(files.beside(path))


def _discard(folder: Path) -> None:
    """Remove folders of ours, and what is remembered in them; nothing of anybody else's."""
    for one in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            is_ours = one.name == _FILE or one.name.startswith(f".{_FILE}.")
            one.rmdir() if one.is_dir() else one.unlink() if is_ours else None
    with suppress(OSError):
        folder.rmdir()


def _plain(entry: Backup) -> dict[str, Any]:
    known = dict(vars(entry))
    for name in _CONTENTS:
        known[name] = None if known[name] is None else base64.b64encode(known[name]).decode()
    return {name: value for name, value in known.items() if name not in _NEWER or value is not None}


def _parse(value: dict[str, Any]) -> Backup:
    known = dict(value)
    for name in _CONTENTS:
        text = known.get(name)
        known[name] = None if text is None else base64.b64decode(text)
    return Backup(**known)
