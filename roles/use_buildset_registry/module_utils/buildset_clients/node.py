# SPDX-License-Identifier: Apache-2.0
"""The node: whose files may be written, and which programs there are."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import ClientError

#: Where programs are that a login by ssh may not have on its PATH.
_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


@dataclass(frozen=True)
class Account:
    """A user whose own files are written."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Node:
    """A file system below ``root``, as root or as an ordinary user."""

    root: Path
    accounts: tuple[Account, ...]
    """Whose credentials are kept; the first one is who does the work."""

    is_root: bool
    path: str = _FOLDERS

    @classmethod
    def here(cls, users: list[str]) -> Node:
        """Describe this node, with those of the users that it has."""
        uid = os.geteuid()
        names = [pwd.getpwuid(uid).pw_name]
        if uid == 0:
            names += [name for name in users if name not in names]
        accounts = [account for name in names for account in account_named(name)]
        folders = os.pathsep.join(filter(None, [os.environ.get("PATH"), _FOLDERS]))
        return cls(Path("/"), tuple(accounts), uid == 0, folders)

    @property
    def me(self) -> Account:
        """Who does the work."""
        return self.accounts[0]

    def real(self, path: str) -> Path:
        """Tell where a file of the node is."""
        return self.root / path.lstrip("/")

    def exists(self, path: str) -> bool:
        """Tell whether the node has a file or folder that can be seen."""
        try:
            return self.real(path).exists()
        except PermissionError:
            return False

    def program(self, name: str) -> str | None:
        """Find a program."""
        return shutil.which(name, path=self.path)


def account_named(name: str) -> list[Account]:
    """Find a user of this machine; an empty list where there is none, as for an empty name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return []
    return [Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)]


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Have a user's rights only, so that no link in his folders leads root astray."""
    if account is None or os.geteuid() != 0 or account.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    except PermissionError as error:
        raise ClientError(f"{error.filename}: {account.name} may not write there") from error
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
