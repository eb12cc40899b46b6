# SPDX-License-Identifier: Apache-2.0
"""Killed at any moment, a registry loses nothing that it acknowledged."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.reliability import crashes
from tests.reliability.server import Server

KILLS = 12


def test_killed_twelve_times(serve: Callable[..., Server]) -> None:
    """Over one store: what was acknowledged is there, and nothing is left half-made."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    outcome = crashes.run(serve, KILLS, seed)
    print(outcome.figures)
    crashes.check(outcome, KILLS)
