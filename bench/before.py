# SPDX-License-Identifier: Apache-2.0
"""This registry as it was: the wheel of a git revision in an environment of its own.

What it depends on is what the benchmark's environment has, so that the two differ in their own code
only.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from io import BytesIO
from pathlib import Path

from bench.peers import BEFORE

#: What makes a wheel, in this repository.
_ROLE = "roles/install_buildset_registry/files"
_BUILD = "import sys, wheel; from pathlib import Path; print(wheel.build(Path(sys.argv[1])))"


def commit(revision: str) -> str:
    """Return the commit that a revision names."""
    return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()


def install(revision: str, folder: Path) -> None:
    """Install a revision's registry below a folder, and let the peer ``before`` find it."""
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / "venv"
    with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", revision, _ROLE))) as files:
        files.extractall(folder, filter="data")
    role = folder / _ROLE
    built = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder)], cwd=role, check=True, capture_output=True
    )
    venv.create(place, symlinks=True)
    packages = next(place.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(built.stdout.decode().strip()) as wheel:
        for name in wheel.namelist():
            wheel.extract(name, packages)
    # Compiled, as pip does it.
    compileall.compile_dir(packages, quiet=1)
    (packages / "benchmark.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    os.environ[BEFORE] = str(place / "bin" / "python")


def _git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], capture_output=True)
    if done.returncode:
        reason = done.stderr.decode().strip() or "there is no such revision"
        raise SystemExit(f"git {' '.join(words)}: {reason}")
    return done.stdout
