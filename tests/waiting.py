# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens soon: for a condition, and never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], what: str = "", seconds: float = 60) -> None:
    """Wait until something is so; what is not within so many seconds fails the test."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
