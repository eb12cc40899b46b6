# SPDX-License-Identifier: Apache-2.0
"""A pip that does not ask the system's store of certificates, as Python 3.10 and 3.11 bring it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import wheelhouse
from tests.desk.company import Mirror
from tests.desk.conftest import MIRROR, User, working

INSTALL = "roles/install_buildset_registry/files/install.sh"
#: Small, and depends on nothing.
PACKAGE = "PyJWT"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def user(mirror: Mirror) -> Iterator[User]:
    """A user whose environment has such a pip, which the mirror's certificate stops."""
    with working() as user:
        user.variables["PIP_INDEX_URL"] = f"https://{MIRROR}:{mirror.port}/simple"
        user.run(wheelhouse.python(), "-m", "venv", user.home / "venv")
        user.run(user.home / "venv" / "bin" / "pip", "install", wheelhouse.OLD_PIP)
        yield user


@pytest.fixture
def venv(user: User) -> Path:
    """The environment with the old pip."""
    venv = user.home / "venv"
    with pytest.raises(AssertionError, match="CERTIFICATE_VERIFY_FAILED"):
        user.run(venv / "bin" / "pip", "download", "--no-deps", "--retries=0", PACKAGE)
    return venv


def test_the_workshop_tells_it_of_the_store(user: User, venv: Path) -> None:
    """``make venv`` begins with the pip that Python brings."""
    pip = venv / "bin" / "pip"
    user.run(venv / "bin" / "python", "tools/indexes.py", pip, "download", "--no-deps", PACKAGE)


def test_the_role_tells_it_of_the_store(user: User, venv: Path) -> None:
    """A node's environment of an earlier run, whose pip is as old as its Python."""
    user.run("touch", venv / ".installed")
    python = user.run(venv / "bin" / "python", "-c", "import sys; print(sys._base_executable)")
    user.run("sh", INSTALL, venv, python.strip(), "wanted", "requirement", PACKAGE, "")
    assert (venv / ".installed").read_text() == "wanted\n"
    assert f"pip {wheelhouse.OLD_PIP.partition('==')[2]} " in user.run(venv / "bin" / "pip", "-V")
