# SPDX-License-Identifier: Apache-2.0
"""Run programs that have to succeed, or have to fail."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_SECONDS = 60


def execute(
    *words: str | Path, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    argv = [str(word) for word in words]
    return subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env=os.environ | (environment or {}),
    )


def run(*words: str | Path, stdin: str = "", environment: dict[str, str] | None = None) -> str:
    """Run a program that has to succeed, and return what it printed."""
    done = execute(*words, stdin=stdin, environment=environment)
    assert done.returncode == 0, f"{done.args}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(*words: str | Path, stdin: str = "") -> str:
    """Run a program that has to fail, and return all that it said."""
    done = execute(*words, stdin=stdin)
    assert done.returncode != 0, f"{done.args} succeeded: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
