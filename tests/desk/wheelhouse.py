# SPDX-License-Identifier: Apache-2.0
"""The wheels that a company's mirror has: all that ``make run``, uvx and pipx ask for."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.roles import harness

LOCK = harness.REPOSITORY / "requirements" / "venv.txt"
#: What builds the registry from the checkout, and what runs its wheel beside uv.
FURTHER = ("hatchling==1.33.0", "editables==0.5", "pipx==1.18.4", "pip==26.3")
#: One that knows no certificate authority but those of its own list.
OLD_PIP = "pip==23.2.1"


def python() -> str:
    """Find the Python that ``make venv`` takes."""
    program = str(harness.REPOSITORY / "tools" / "find-python")
    find = [program, "3.14", "3.13", "3.12", "3.11", "3.10"]
    environment = {"PATH": harness.clean_path()}
    found = subprocess.run(find, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout.strip()


def fetch() -> Path:
    """Fetch the wheels once and keep them in the cache."""
    named = "\n".join([python(), *FURTHER, OLD_PIP, LOCK.read_text()])
    folder = harness.cached("desk-" + hashlib.sha256(named.encode()).hexdigest()[:12])
    with harness.locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([python(), "-m", "venv", folder / "venv"], check=True)
            fetch = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--quiet", "download"]
            fetch += ["--only-binary", ":all:", "--dest", str(folder / "wheels")]
            subprocess.run([*fetch, "--requirement", str(LOCK)], check=True)
            subprocess.run([*fetch, *FURTHER], check=True)
            subprocess.run([*fetch, OLD_PIP], check=True)
            (folder / "complete").touch()
    return folder / "wheels"
