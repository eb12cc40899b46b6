# SPDX-License-Identifier: Apache-2.0
"""The wheel of the program, run by uvx and by pipx with nothing installed before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.desk import wheelhouse
from tests.desk.company import Mirror
from tests.desk.conftest import MIRROR, User
from tests.roles import harness

#: An environment of Python is made, some of them on a disk that others use too.
pytestmark = pytest.mark.timeout(400)
BUILD = """
import sys; sys.path.insert(0, sys.argv[1]); import wheel; from pathlib import Path
print(wheel.build(Path(sys.argv[2])))
"""


@pytest.fixture
def wheel(user: User) -> Path:
    """The wheel that ``make test`` leaves in build/dist, at the user's desk."""
    scripts = str(harness.ROLES / "install_buildset_registry" / "files")
    command = [sys.executable, "-c", BUILD, scripts, str(user.home)]
    built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    Path(built).chmod(0o644)
    return Path(built)


@pytest.mark.parametrize(
    ("package", "runner"),
    [("uv", ["uvx", "--from"]), ("pipx", ["pipx", "run", "--spec"])],
    ids=["uvx", "pipx"],
)
def test_a_registry_from_the_wheel(
    user: User, mirror: Mirror, wheel: Path, package: str, runner: list[str]
) -> None:
    """It starts, tells of itself and stops, and leaves nothing when told so."""
    index = f"https://{MIRROR}:{mirror.port}/simple"
    user.variables = {
        "PIP_INDEX_URL": index,
        "UV_DEFAULT_INDEX": index,
        "UV_SYSTEM_CERTS": "true",
    }
    user.run(wheelhouse.python(), "-m", "venv", user.home / "tools")
    user.run(user.home / "tools" / "bin" / "pip", "install", "--quiet", package)
    program = user.home / "tools" / "bin" / runner[0]

    def registry(*words: str) -> str:
        return user.run(program, *runner[1:], wheel, "buildset-registry", *words)

    assert "buildset-registry" in registry("--version")
    registry("up")
    told = registry("status", "--json")
    assert json.loads(told[told.index("{") :])["running"]
    registry("down", "--purge")
    assert not (user.home / ".local" / "share" / "buildset-registry").exists()
    assert shutil.which("buildset-registry", path=harness.clean_path()) is None
