# SPDX-License-Identifier: Apache-2.0
"""The folder of a registry: the paths in it, by the only functions that name them, and its files.

::

    <root>/
    ├── config.yaml        what ``serve`` reads; 0600, it may hold passwords of upstreams
    ├── instance.json      what the configuration does not say: host, alias, supervisor
    ├── cert.pem           what clients trust: the certificate authority
    ├── server.pem         the server's certificate, then the authority's
    ├── server.key         0600
    ├── proxy.pem          the same for the registries that the proxy for docker stands for
    ├── proxy.key         0600
    ├── htpasswd           0600
    ├── password           0600, for ``--password-stdin``
    ├── token.key          0600
    ├── data/              0700, the store
    ├── lock/              the lock of images that is replayed, by the name that it had
    ├── log/registry.log
    ├── ledger/            0700, which image each client got
    ├── overlay/           0700, images of other builds, and the tokens that fetch them
    └── run/               what ends with the process: locks, standard error
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buildset_registry.errors import ConfigError
from buildset_registry.files import write_file

#: The mode of a folder, whatever the umask: who may write to it may exchange what is in it.
_OWN = 0o755
#: All that is drawn above.
_NAMES = frozenset(
    (
        *("config.yaml", "instance.json", "cert.pem", "server.pem", "server.key", "proxy.pem"),
        *("proxy.key", "htpasswd", "password", "token.key", "data", "lock", "log", "ledger"),
        *("overlay", "run"),
    )
)


def default_root() -> Path:
    """Return the folder of a registry for which none was named."""
    if os.getuid() == 0:
        return Path("/var/lib/buildset-registry")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        return Path(data).expanduser() / "buildset-registry"
    except RuntimeError:  # a user who is a number only, as in a container
        raise ConfigError(
            "this user has no home for a registry; set HOME, or XDG_DATA_HOME, to a folder"
        ) from None


@dataclass(frozen=True, slots=True)
class InstancePaths:
    """The paths in the folder of one registry."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def instance(self) -> Path:
        return self.root / "instance.json"

    @property
    def authority(self) -> Path:
        return self.root / "cert.pem"

    @property
    def certificate(self) -> Path:
        return self.root / "server.pem"

    @property
    def key(self) -> Path:
        return self.root / "server.key"

    @property
    def proxy_certificate(self) -> Path:
        return self.root / "proxy.pem"

    @property
    def proxy_key(self) -> Path:
        return self.root / "proxy.key"

    @property
    def htpasswd(self) -> Path:
        return self.root / "htpasswd"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def token_key(self) -> Path:
        return self.root / "token.key"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """The lock that the watchdog and its server hold as long as one of them lives."""
        return self.run / "lock"

    @property
    def last_words(self) -> Path:
        """The server's standard error: why it cannot start, or a crash."""
        return self.run / "stderr"

    @property
    def started(self) -> Path:
        """The stamp of the plan by which the running server was started."""
        return self.run / "started"

    @property
    def found(self) -> Path:
        """The names in the folder that were there before the registry was, where there were any."""
        return self.run / "found"

    def prepare(self) -> None:
        """Make the folders; ``ConfigError`` where this user may not."""
        try:
            self.root.mkdir(mode=_OWN, parents=True, exist_ok=True)
            found = [] if self.run.exists() else self._strange()
            self.run.mkdir(mode=_OWN, exist_ok=True)
            if found:
                write_file(self.found, json.dumps(found))
            self.data.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make the folder {error.filename or self.root}: {error.strerror}; "
                "name one by --root that this user may write"
            ) from None

    def remove(self) -> list[str]:
        """Remove the registry, and the folder where nothing else is in it; return what stays.

        Somebody may have named a folder that holds other things, and all of them are precious.
        """
        try:
            found = json.loads(read_file(self.found) or "[]")
        except ValueError:
            found = []
        try:
            names = [name for name in self._entries() if _is_own(name) and name not in found]
            # What tells that this is a registry, and what was there before, goes last.
            names.sort(key=lambda name: (name in (self.instance.name, self.run.name), name))
            for path in (self.root / name for name in names):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            left = self._entries()
            if not left:
                self.root.rmdir()
        except OSError as error:
            raise ConfigError(
                f"cannot remove {error.filename or self.root}: {error.strerror}; remove it by hand"
            ) from None
        return left

    def _strange(self) -> list[str]:
        """Return the names in a folder that is about to be a registry's, and are somebody else's.

        Of one that was put back from a backup, which has no ``run``, its own files are its own.
        """
        names = self._entries()
        return [name for name in names if not _is_own(name)] if self.instance.exists() else names

    def _entries(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let one ``up`` or ``down`` at a time work on the registry."""
        try:
            descriptor = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot write to {self.run}: {error.strerror}; "
                "run this as the user whose registry it is, or name another folder by --root"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_own(name: str) -> bool:
    """Tell whether an entry of a folder is one that a registry makes, or was about to make."""
    begun = name[1:].rpartition(".")[0] if name.startswith(".") else ""
    return name in _NAMES or begun in _NAMES


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there."""
    try:
        path.mkdir(mode=_OWN, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {path}: {error.strerror}; make room, or run this as another user"
        ) from None


def read_file(path: Path) -> str | None:
    """Return a file's text, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot read {path}: {reason}; "
            "run this as the user whose registry it is, or remove the file"
        ) from None
