# SPDX-License-Identifier: Apache-2.0
"""A transaction over a node's files: to what is wanted, or back to what they were.

Everything is worked out before anything is written: a file that is broken leaves all as it was. The
new contents are all staged before the first one takes its name: a file that cannot be written
leaves all as it was, too. What a file becomes, and each folder that is made for one, is remembered
before it happens, so that it can be undone from wherever a run ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from pathlib import Path

from . import files, masking
from .backups import Backup, Backups, State
from .edits import OWN, Edit, taken_back, united
from .errors import ClientError, cannot, taking
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
                masking.mask((part or b"").decode("utf-8", "replace")).splitlines()
                for part in (before, after)
            )
            self.difference += unified_diff(old, new, names[0], names[1], lineterm="")
        if entry.action:
            self.need(entry.client, entry.action)

    def need(self, client: str, action: str) -> None:
        """Have a daemon reload or restart; the latter is more."""
        if self.actions.get(client) != "restart":
            self.actions[client] = action


@dataclass(frozen=True)
class Replacement:
    """One file, and what it is to hold; nothing where it is to go."""

    path: Path
    current: bytes | None
    target: bytes | None
    mode: int
    account: Account | None
    name: str
    """The name by which users know it."""

    @contextmanager
    def written(self) -> Iterator[None]:
        """Work on it with its user's rights; an error has its name and what to do."""
        try:
            with acting_as(self.account):
                yield
        except OSError as error:
            who = self.account.name if self.account else ""
            raise cannot("write", self.name, error, who) from error

    def missing_folders(self) -> dict[str, str]:
        """Return the folders that have to be made for it, each with its user."""
        name = self.account.name if self.account else ""
        with self.written():
            missing = [] if self.target is None else files.missing_folders(self.path.parent)
        return dict.fromkeys(map(str, missing), name)


class Transaction:
    """One run over a node's files: planned as a whole, then carried out."""

    def __init__(self, node: ManagedNode, backups: Backups) -> None:
        self.node = node
        self.backups = backups
        self.outcome = Outcome()
        self.replacements: list[Replacement] = []
        self.entries = {node.resolve(path): one for path, one in backups.state.entries.items()}
        self.folders = dict(backups.state.folders)
        self.kept: dict[str, Backup] = {}

    def plan(self, edits: Iterable[Edit]) -> Outcome:
        """Work out what is to be done to each file."""
        wanted = united(edits, lambda edit: self.node.resolve(edit.path))
        for name in [name for name in self.entries if name not in wanted]:
            self._undo(name)
        for name, edit in wanted.items():
            self._do(name, edit)
        for client, action in self.backups.state.actions.items():
            self.outcome.need(client, action)
        return self.outcome

    def carry_out(self) -> None:
        """Write what was worked out. What clients have to do is remembered until it is done."""
        if not self.replacements and self.kept == self.entries:
            self.backups.tidy()
            return
        before, actions = self.backups.state, self.outcome.actions
        for one in self.replacements:
            self.folders.update(one.missing_folders())
        self.backups.write(State({**self.entries, **self._under_way()}, self.folders, actions))
        self.folders = dict(self.backups.state.folders)
        try:
            staged = self._stage()
        except BaseException:
            self._tidy()
            with suppress(ClientError):
                self.backups.write(replace(before, folders=self.folders))
            raise
        self._take(staged)
        self._tidy()
        self.backups.write(State(self.kept, self.folders, actions))

    def settle(self, client: str) -> None:
        """Remember that a client has done what it had to do."""
        state = self.backups.state
        if client in state.actions:
            left = {name: action for name, action in state.actions.items() if name != client}
            self.backups.write(replace(state, actions=left))

    def _do(self, name: str, edit: Edit) -> None:
        known = self.entries.get(name)
        path = self.node.real(name)
        with acting_as(edit.account):
            current, status = files.read(path), files.status(path)
        if known and not _is_open(edit, status) and _stands(edit, known, current):
            self.kept[name] = known
            return
        with taking(edit.path, edit.client):
            base = current if known is None else self._base(name, known, current)
            after = edit.rewrite(base)
        was = None if base is None else known.mode if known else status.mode if status else None
        mode = edit.mode if was is None or status is None else status.mode
        mode &= 0o600 if edit.secret else 0o7777
        account = edit.account.name if edit.account else ""
        entry = Backup(
            edit.client, edit.kind, base, after, was, edit.secret, account, edit.action, given=mode
        )
        narrowed = status is not None and status.mode != mode
        if after != base or narrowed or (known and was not in (None, mode)):
            # What somebody else has written just so is not ours to take back.
            self.kept[name] = entry
        if after != current or narrowed:
            self.outcome.note(edit.path, entry, current, after)
            one = Replacement(path, current, after, mode, edit.account, edit.path)
            self.replacements.append(one)

    def _undo(self, name: str) -> None:
        entry = self.entries[name]
        path, account = self.node.real(name), self._account(entry.account)
        with acting_as(account):
            current, status = files.read(path), files.status(path)
        target = self._base(name, entry, current)
        mode = _given_back(entry, status.mode if status else None)
        if target != current or (status and target is not None and status.mode != mode):
            self.outcome.note(name, entry, current, target)
            self.replacements.append(Replacement(path, current, target, mode, account, name))

    def _base(self, path: str, entry: Backup, current: bytes | None) -> bytes | None:
        """Tell what a file would be without us."""
        if current in (entry.after, entry.before, entry.former):
            return None if current is None else entry.before
        if current is None:
            return None
        try:
            left = taken_back(entry.kind, entry.before, entry.after, current)
        except (ValueError, RecursionError):
            return self._scrubbed(path, entry, current)
        if entry.kind == OWN:
            what = f"{path} was changed by somebody else; it is replaced by what was there before"
            self.outcome.warnings.append(what)
        return left

    def _scrubbed(self, path: str, entry: Backup, current: bytes) -> bytes:
        """Leave a file of which our part cannot be told, but for the credentials in it."""
        left, stays = current, "what is there stays"
        if entry.secret:
            old, new = (
                masking.secrets((part or b"").decode("utf-8", "replace"))
                for part in (entry.before, entry.after)
            )
            for word in sorted(new - old, key=len):
                left = left.replace(word.encode(), b"")
            stays += ", less the credentials" if left != current else ""
        self.outcome.warnings.append(f"{path} was changed where this role had written; {stays}")
        return left

    def _under_way(self) -> dict[str, Backup]:
        """Return what will be kept, with what is there now where that is of an earlier run."""
        found = dict(self.kept)
        for one in self.replacements:
            for name, entry in self.kept.items():
                known = (None, entry.before, entry.after)
                if self.node.real(name) == one.path and one.current not in known:
                    found[name] = replace(entry, former=one.current)
        return found

    def _stage(self) -> dict[Path, files.Staged]:
        """Make the folders that are missing, and put all new contents on disk."""
        staged: dict[Path, files.Staged] = {}
        try:
            for one in self.replacements:
                if one.target is not None:
                    with one.written():
                        files.make_folder(one.path.parent, 0o700 if one.account else 0o755)
                        staged[one.path] = files.stage(one.path, one.target, one.mode)
        except BaseException:
            self._discard(staged)
            raise
        return staged

    def _take(self, staged: dict[Path, files.Staged]) -> None:
        """Give each file its new content, or remove it."""
        try:
            for one in self.replacements:
                with one.written():
                    staged[one.path].take() if one.path in staged else files.remove(one.path)
        finally:
            self._discard(staged)

    def _discard(self, staged: dict[Path, files.Staged]) -> None:
        for one in self.replacements:
            if one.path in staged:
                with suppress(ClientError), one.written():
                    staged[one.path].discard()

    def _tidy(self) -> None:
        """Remove what a run that was killed has staged, and folders made that are empty again."""
        for name, entry in self.entries.items():
            with acting_as(self._account(entry.account)):
                files.remove_staged(self.node.real(name))
        for name in sorted(self.folders, key=len, reverse=True):
            with acting_as(self._account(self.folders[name])), suppress(OSError):
                with suppress(FileNotFoundError):
                    Path(name).rmdir()
                del self.folders[name]

    def _account(self, name: str) -> Account | None:
        found = [one for one in self.node.accounts if one.name == name]
        return next(iter(found or account_named(name)), None)


def _given_back(entry: Backup, mode: int | None) -> int:
    """Tell the mode that a file is to have again, unless somebody has given it another one."""
    if mode is None or entry.mode is None:
        return 0o600 if mode is None else mode
    return entry.mode if entry.given in (None, mode) else mode


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
