# SPDX-License-Identifier: Apache-2.0
"""The managed node: its files, users and programs, and the processes that run there."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ClientError

#: Folders of programs that a login by ssh may not have on its PATH.
_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


@dataclass(frozen=True)
class Account:
    """A user whose own files are written."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class ManagedNode:
    """A file system below ``root``, as root or as an ordinary user."""

    root: Path
    accounts: tuple[Account, ...]
    """The users whose credentials are kept; the first one is who does the work."""

    is_root: bool
    path: str = _FOLDERS
    notes: tuple[str, ...] = ()
    """What is told of users that are passed over."""

    @classmethod
    def here(cls, users: list[str]) -> ManagedNode:
        """Describe this node, with those of the users that it has."""
        me = _account_of(os.geteuid())
        others = list(dict.fromkeys(users)) if me.uid == 0 else []
        found = [one for name in others for one in account_named(name) if one.uid != me.uid]
        accounts = [me, *(one for one in found if Path(one.home).is_dir())]
        notes = [
            f"{one.name} has no credentials: the home {one.home} is not there"
            for one in found
            if one not in accounts
        ]
        folders = os.pathsep.join(filter(None, [os.environ.get("PATH"), _FOLDERS]))
        return cls(Path("/"), tuple(accounts), me.uid == 0, folders, tuple(notes))

    @property
    def me(self) -> Account:
        """The user who does the work."""
        return self.accounts[0]

    def real(self, path: str) -> Path:
        """Tell where a file of the node is."""
        return self.root / path.lstrip("/")

    def resolve(self, path: str) -> str:
        """Tell the name of the file that a name stands for, where links lead to another one."""
        top, found = os.path.realpath(self.root).rstrip("/"), os.path.realpath(self.real(path))
        return found[len(top) :] if found.startswith(f"{top}/") else path

    def exists(self, path: str) -> bool:
        """Tell whether the node has a file or folder that can be seen."""
        try:
            return self.real(path).exists()
        except PermissionError:
            return False

    def program(self, name: str) -> str | None:
        """Find a program."""
        return shutil.which(name, path=self.path)

    def major(self, program: str) -> int:
        """Tell the major version of a program; 1 where it cannot be told."""
        path = self.program(program)
        if path is None:
            return 1
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"\bv?(\d+)\.\d+", told.stdout)
        return int(found.group(1)) if found else 1

    def processes(self, program: str) -> dict[int, list[str]]:
        """Return the arguments of a program's processes by number; those in containers, which have
        another root, are left out."""
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                same = os.path.samestat((entry / "root").stat(), self.root.stat())
            except OSError:
                continue
            if words[0].rpartition("/")[2] == program and same:
                found[int(entry.name)] = words[1:-1]
        return found

    def is_of_another(self, program: str) -> bool:
        """Tell whether another user, such as root, runs a program here; not in a container."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                found = words[0].rpartition("/")[2] == program
                if found and entry.stat().st_uid != self.me.uid and self._has(entry):
                    return True
            except OSError:
                continue
        return False

    def _has(self, process: Path) -> bool:
        """Tell whether a process is the node's own. Where its root may not be seen, one that is in
        a container has a number in another list of processes as well."""
        try:
            return os.path.samestat((process / "root").stat(), self.root.stat())
        except PermissionError:
            told = re.search(r"^NSpid:(.*)$", (process / "status").read_text(), re.MULTILINE)
            return told is None or len(told.group(1).split()) == 1

    def is_socket_of_another(self, path: str) -> bool:
        """Tell whether another user's daemon listens, or systemd does until it is wanted."""
        try:
            found = self.real(path).lstat()
        except OSError:
            return False
        return stat.S_ISSOCK(found.st_mode) and found.st_uid != self.me.uid

    def environment(self, program: str) -> dict[str, str]:
        """Return the environment of a daemon that runs; nothing where it may not be seen."""
        for process in self.processes(program):
            try:
                content = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            pairs = [one.partition("=") for one in content.decode("utf-8", "replace").split("\0")]
            return {name: value for name, _separator, value in pairs if name}
        return {}

    def started(self, program: str) -> float:
        """Tell when a daemon that runs was started; 0 where none is seen."""
        for process in self.processes(program):
            with suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                alive = float(Path("/proc/uptime").read_text().split()[0])
                return time.time() - alive + int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return 0


def option(arguments: list[str], name: str) -> str:
    """Tell the value of an option on a daemon's command line; nothing where it is not there."""
    for index, argument in enumerate(arguments):
        found, separator, value = argument.partition("=")
        if found in (f"-{name}", f"--{name}"):
            return value if separator else "".join(arguments[index + 1 : index + 2])
    return ""


def account_named(name: str) -> list[Account]:
    """Find a user of this machine; an empty list where there is none, as for an empty name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return []
    return [Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)]


def _account_of(uid: int) -> Account:
    """Describe the user who does the work, who may have a number only, as in a container."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            hint = "set HOME, or add the user to /etc/passwd"
            raise ClientError(f"user {uid} is not in /etc/passwd and has no HOME; {hint}") from None
        return Account(str(uid), uid, os.getegid(), home)
    return Account(entry.pw_name, uid, entry.pw_gid, entry.pw_dir)


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Have a user's rights only, so that no link in his folders leads root astray."""
    if account is None or os.geteuid() != 0 or account.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups(os.getgrouplist(account.name, account.gid))
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
