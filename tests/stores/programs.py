# SPDX-License-Identifier: Apache-2.0
"""The programs of the object stores: found in the tests' cache, or installed there once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.roles.harness import CACHE, REPOSITORY, base_python, cached, locked
from tools import indexes

_REQUIREMENTS = REPOSITORY / "requirements"
_NPM = ("package.json", "package-lock.json")


class InstallError(RuntimeError):
    """A program cannot be installed."""


def fetch_all() -> None:
    """Install whatever tools/go-tools does not."""
    azurite()
    swift()


def go_tool(name: str) -> Path:
    """Return a program written in Go, at its pinned version."""
    program = CACHE / "go" / "bin" / name
    _run([str(REPOSITORY / "tools" / "go-tools"), name], attempts=1)
    return program


def azurite() -> Path:
    """Return Azurite's server of blobs."""
    return npm_folder("azurite") / "node_modules" / ".bin" / "azurite-blob"


def npm_folder(name: str) -> Path:
    """Return where packages are installed, as the lock file in ``requirements/NAME`` has them."""
    sources = [_REQUIREMENTS / name / source for source in _NPM]
    named = "".join(source.read_text() for source in sources)
    folder = cached(f"{name}-" + hashlib.sha256(named.encode()).hexdigest()[:12])
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for source in sources:
                shutil.copy(source, folder)
            # Nothing of it needs its scripts, which would build what has no binary.
            options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
            _run(["npm", "ci", "--loglevel", "error", *options])
            (folder / "complete").touch()
    return folder


def swift() -> Path:
    """Return the environment that has Swift and Keystone."""
    lock = _REQUIREMENTS / "swift.txt"
    named = f"{base_python()}\n{lock.read_text()}"
    folder = cached("swift-" + hashlib.sha256(named.encode()).hexdigest()[:12])
    with locked(folder.name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([str(base_python()), "-m", "venv", str(folder)], attempts=1)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            options = ["--only-binary", ":all:", "--require-hashes", "--requirement", str(lock)]
            _run([*pip, "--disable-pip-version-check", *options])
            (folder / "complete").touch()
    return folder


def _run(command: Sequence[str], *, attempts: int = 2) -> None:
    """Run a command, again where a download broke off; ``InstallError`` has what it said last."""
    environment = os.environ | indexes.environment()
    for _ in range(attempts):
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        except FileNotFoundError as error:
            message = f"{command[0]} is missing: run tools/ensure-packages test"
            raise InstallError(message) from error
        if done.returncode == 0:
            return
    said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
    message = f"'{' '.join(command)}' failed, code {done.returncode}: {said}"
    raise InstallError(message)
