# SPDX-License-Identifier: Apache-2.0
"""The machine's programs, and the error that says which one failed and why."""

from __future__ import annotations

import subprocess


class LabError(Exception):
    """Say in one line what is wrong with a lab, and what to do."""


def run(*argv: str, given: str | None = None) -> str:
    """Run a program and return what it printed."""
    try:
        done = subprocess.run(argv, input=given, capture_output=True, text=True)
    except FileNotFoundError as error:
        message = f"{argv[0]} is missing: run tools/ensure-packages test"
        raise LabError(message) from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).split("\n")[0]
        raise LabError(f"{' '.join(argv)} ended with code {done.returncode}: {words}")
    return done.stdout
