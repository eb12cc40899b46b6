# SPDX-License-Identifier: Apache-2.0
"""An ordinary user of a machine whose store of certificates names the company's authority."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.desk.company import ADDRESS, Mirror, Proxy, serving, tls_of
from tests.roles import harness

#: What the machine tells pip, which is not the company's.
SETTINGS = (Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf"))
HOSTS = Path("/etc/hosts")
STORE = Path("/etc/ssl/certs/ca-certificates.crt")
#: A name that the company's machines know, and one that its proxy alone knows.
MIRROR = "mirror.example.org"
HIDDEN = "index.example.org"


@dataclass
class User:
    """A user who may do nothing special, and has nothing but a copy of the checkout."""

    name: str
    home: Path
    checkout: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a command in the checkout, and return what it prints."""
        as_user = ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups"]
        environment = {
            "HOME": str(self.home),
            "PATH": harness.clean_path(),
            "LANG": "C.UTF-8",
            **self.variables,
            **variables,
        }
        done = subprocess.run(
            [*as_user, *command],
            cwd=self.checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file below the home folder."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let nobody run these outside, where they would change the machine."""
    if items and os.environ.get("BUILDSET_ENCLOSED") != "yes":
        raise pytest.UsageError("run these by tests/clients/enclosed, as the tier desk does")


@pytest.fixture(scope="session")
def mirror() -> Iterator[Mirror]:
    """The company's mirror, whose certificate only the system's store can verify."""
    for settings in SETTINGS:
        settings.unlink(missing_ok=True)
    authority = trustme.CA()
    with STORE.open("ab") as store:
        store.write(authority.cert_pem.bytes())
    with HOSTS.open("a") as hosts:
        hosts.write(f"{ADDRESS} {MIRROR}\n")
    wheels = Path(os.environ["DESK_WHEELS"])
    mirror = Mirror(wheels, tls_of(authority, MIRROR, HIDDEN))
    with serving(mirror):
        yield mirror


@pytest.fixture
def proxy(mirror: Mirror) -> Iterator[Proxy]:
    """The company's proxy."""
    proxy = Proxy(mirror)
    with serving(proxy):
        yield proxy


def copy_checkout(target: Path) -> None:
    """Copy what git tracks, and what it would."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run(
        [*git, "--exclude-standard"], cwd=harness.REPOSITORY, check=True, stdout=subprocess.PIPE
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = harness.REPOSITORY / name
        if source.is_symlink() or source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


@contextmanager
def working() -> Iterator[User]:
    """Make a user with a copy of the checkout, and remove both again."""
    with (
        harness.ordinary_user() as name,
        tempfile.TemporaryDirectory(prefix="buildset-desk-") as folder,
    ):
        user = User(name, Path(folder, "home"), Path(folder, "checkout"))
        user.home.mkdir()
        copy_checkout(user.checkout)
        Path(folder).chmod(0o755)
        subprocess.run(["usermod", "--home", user.home, name], check=True)
        for each in (user.home, user.checkout):
            subprocess.run(
                ["chown", "--recursive", "--no-dereference", f"{name}:", each], check=True
            )
        yield user


@pytest.fixture
def user() -> Iterator[User]:
    """A user who has not begun to work."""
    with working() as user:
        yield user
