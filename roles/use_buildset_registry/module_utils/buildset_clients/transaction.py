# SPDX-License-Identifier: Apache-2.0
"""A transaction over a node's files: to what is wanted, or back to what they were.

Everything is worked out before anything is written: a file that is broken leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from . import files
from .backups import Backup, Backups
from .edits import Edit, taken_back
from .errors import ClientError
from .node import Account, ManagedNode, account_named, acting_as


@dataclass
class Outcome:
    """The outcome of a transaction, or what it would be."""

    paths: list[str] = field(default_factory=list)
    """The files that change."""

    difference: list[str] = field(default_factory=list)
    """The lines of a unified diff of them."""

    actions: dict[str, str] = field(default_factory=dict)
    """``reload`` or ``restart``, by client."""

    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Tell whether a file changes."""
        return bool(self.paths)

    def note(self, path: str, entry: Backup, before: bytes | None, after: bytes | None) -> None:
        """Keep the difference, less what nobody may see, and what the daemon needs."""
        self.paths.append(path)
        names = [path if part is not None else "(no file)" for part in (before, after)]
        if entry.secret:
            self.difference += [f"--- {names[0]}", f"+++ {names[1]}", "(it holds credentials)"]
        else:
            old, new = (
                (part or b"").decode("utf-8", "replace").splitlines() for part in (before, after)
            )
            self.difference += unified_diff(old, new, names[0], names[1], lineterm="")
        if entry.action and self.actions.get(entry.client) != "restart":
            self.actions[entry.client] = entry.action


@dataclass(frozen=True)
class Replacement:
    """One file, and what it is to hold; nothing where it is to go."""

    path: Path
    current: bytes | None
    target: bytes | None
    mode: int
    account: Account | None


class Transaction:
    """One run over a node's files: planned as a whole, then carried out."""

    def __init__(self, node: ManagedNode, backups: Backups) -> None:
        self.node = node
        self.backups = backups
        self.outcome = Outcome()
        self.replacements: list[Replacement] = []
        self.kept: dict[str, Backup] = {}

    def plan(self, edits: Iterable[Edit]) -> Outcome:
        """Work out what is to be done to each file."""
        wanted = {edit.path: edit for edit in edits}
        for path in [path for path in self.backups.entries if path not in wanted]:
            self._undo(path)
        for edit in wanted.values():
            self._do(edit)
        return self.outcome

    def carry_out(self) -> None:
        """Write what was worked out."""
        if not self.replacements and self.kept == self.backups.entries:
            return
        self._make_folders()
        self.backups.write({**self.backups.entries, **self.kept})
        for one in self.replacements:
            with acting_as(one.account):
                _take(one)
        self._tidy()
        self.backups.write(self.kept)

    def _do(self, edit: Edit) -> None:
        known = self.backups.entries.get(edit.path)
        path = self.node.real(edit.path)
        with acting_as(edit.account):
            current, status = files.read(path), files.status(path)
        if known and not _is_open(edit, status) and _stands(edit, known, current):
            self.kept[edit.path] = known
            return
        base = current if known is None else self._base(edit.path, known, current)
        after = edit.rewrite(base)
        was = known.mode if known else status.mode if status else None
        mode = edit.mode if was is None else was & 0o600 if edit.secret else was
        account = edit.account.name if edit.account else ""
        entry = Backup(edit.client, edit.kind, base, after, was, edit.secret, account, edit.action)
        if after != base:  # what somebody else has written just so is not ours to take back
            self.kept[edit.path] = entry
        if after != current or (status and status.mode != mode):
            self.outcome.note(edit.path, entry, current, after)
            self.replacements.append(Replacement(path, current, after, mode, edit.account))

    def _undo(self, name: str) -> None:
        entry = self.backups.entries[name]
        path, account = self.node.real(name), self._account(entry.account)
        with acting_as(account):
            current = files.read(path)
        target = self._base(name, entry, current)
        if target != current:
            self.outcome.note(name, entry, current, target)
            mode = 0o644 if entry.mode is None else entry.mode
            self.replacements.append(Replacement(path, current, target, mode, account))

    def _base(self, path: str, entry: Backup, current: bytes | None) -> bytes | None:
        """Tell what a file would be without us."""
        if current == entry.after or current == entry.before:
            return entry.before
        if current is None:
            return None
        try:
            left = taken_back(entry.kind, entry.before, entry.after, current)
        except ValueError:
            what = f"{path} was changed where this role had written; what is there stays"
            self.outcome.warnings.append(what)
            return current
        if entry.kind == "own":
            what = f"{path} was changed by somebody else; it is replaced by what was there before"
            self.outcome.warnings.append(what)
        return left

    def _make_folders(self) -> None:
        """Make the folders that are missing, and remember them."""
        for one in self.replacements:
            if one.target is not None:
                with acting_as(one.account):
                    made = files.make_folder(one.path.parent)
                self.backups.folders.update(
                    dict.fromkeys(made, one.account.name if one.account else "")
                )

    def _tidy(self) -> None:
        """Remove folders that were made and are empty again."""
        for name in sorted(self.backups.folders, key=len, reverse=True):
            with acting_as(self._account(self.backups.folders[name])), suppress(OSError):
                Path(name).rmdir()
                del self.backups.folders[name]

    def _account(self, name: str) -> Account | None:
        found = [one for one in self.node.accounts if one.name == name]
        return next(iter(found or account_named(name)), None)


def _is_open(edit: Edit, status: files.FileStatus | None) -> bool:
    """Tell whether others may read a file that holds the password."""
    return edit.secret and status is not None and bool(status.mode & 0o077)


def _stands(edit: Edit, known: Backup, current: bytes | None) -> bool:
    """Tell whether all that was made of a file is in it still, though somebody has changed it.

    Taking ours out and putting it in again would move it: whoever else writes the file, as the
    roles of zuul-jobs do, would find it changed each time."""
    if current is None or current in (known.before, known.after):
        return False
    try:
        return edit.rewrite(known.before) == known.after and edit.rewrite(current) == current
    except ClientError:
        return False


def _take(one: Replacement) -> None:
    if one.target is not None:
        files.write(one.path, one.target, one.mode)
    elif one.current is not None:
        files.remove(one.path)
