# SPDX-License-Identifier: Apache-2.0
"""Bring the files of a node to what is wanted, or back to what they were.

Everything is worked out before anything is written: a file that is broken leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from . import files
from .edits import Edit, taken_back
from .ledger import Entry, Ledger
from .node import Account, Node, account_named, acting_as


@dataclass
class Outcome:
    """What was done, or would be."""

    paths: list[str] = field(default_factory=list)
    """The files that change."""

    difference: list[str] = field(default_factory=list)
    """What changes in them, in the lines of a unified diff."""

    actions: dict[str, str] = field(default_factory=dict)
    """What daemons need, by client."""

    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Tell whether a file changes."""
        return bool(self.paths)

    def note(self, path: str, entry: Entry, before: bytes | None, after: bytes | None) -> None:
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
class Step:
    """One file, and what it is to hold; nothing where it is to go."""

    path: Path
    current: bytes | None
    target: bytes | None
    mode: int
    account: Account | None


class Applying:
    """One run over a node's files."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self.node = node
        self.ledger = ledger
        self.outcome = Outcome()
        self.steps: list[Step] = []
        self.kept: dict[str, Entry] = {}

    def plan(self, edits: Iterable[Edit]) -> Outcome:
        """Work out all steps."""
        wanted = {edit.path: edit for edit in edits}
        for path in [path for path in self.ledger.entries if path not in wanted]:
            self._undo(path)
        for edit in wanted.values():
            self._do(edit)
        return self.outcome

    def carry_out(self) -> None:
        """Write what was worked out."""
        if not self.steps and self.kept == self.ledger.entries:
            return
        self._make_folders()
        self.ledger.write({**self.ledger.entries, **self.kept})
        for step in self.steps:
            with acting_as(step.account):
                _take(step)
        self._tidy()
        self.ledger.write(self.kept)

    def _do(self, edit: Edit) -> None:
        known = self.ledger.entries.get(edit.path)
        path = self.node.real(edit.path)
        with acting_as(edit.account):
            current, status = files.read(path), files.status(path)
        base = current if known is None else self._base(edit.path, known, current)
        after = edit.change(base)
        was = known.mode if known else status.mode if status else None
        mode = edit.mode if was is None else was & 0o600 if edit.secret else was
        account = edit.account.name if edit.account else ""
        entry = Entry(edit.client, edit.kind, base, after, was, edit.secret, account, edit.action)
        if after != base:  # what somebody else has written just so is not ours to take back
            self.kept[edit.path] = entry
        if after != current or (status and status.mode != mode):
            self.outcome.note(edit.path, entry, current, after)
            self.steps.append(Step(path, current, after, mode, edit.account))

    def _undo(self, name: str) -> None:
        entry = self.ledger.entries[name]
        path, account = self.node.real(name), self._account(entry.account)
        with acting_as(account):
            current = files.read(path)
        target = self._base(name, entry, current)
        if target != current:
            self.outcome.note(name, entry, current, target)
            mode = 0o644 if entry.mode is None else entry.mode
            self.steps.append(Step(path, current, target, mode, account))

    def _base(self, path: str, entry: Entry, current: bytes | None) -> bytes | None:
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
        for step in self.steps:
            if step.target is not None:
                with acting_as(step.account):
                    made = files.make_folder(step.path.parent)
                self.ledger.folders.update(
                    dict.fromkeys(made, step.account.name if step.account else "")
                )

    def _tidy(self) -> None:
        """Remove folders that were made and are empty again."""
        for name in sorted(self.ledger.folders, key=len, reverse=True):
            with acting_as(self._account(self.ledger.folders[name])), suppress(OSError):
                Path(name).rmdir()
                del self.ledger.folders[name]

    def _account(self, name: str) -> Account | None:
        found = [one for one in self.node.accounts if one.name == name]
        return next(iter(found or account_named(name)), None)


def _take(step: Step) -> None:
    if step.target is not None:
        files.write(step.path, step.target, step.mode)
    elif step.current is not None:
        files.remove(step.path)
