# SPDX-License-Identifier: Apache-2.0
"""The tests of ``tests/reliability`` with the figures that take long."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.reliability import crashes, large, nonsense, stalled
from tests.reliability.server import Server


@pytest.mark.timeout(1800)
def test_killed_two_hundred_times(serve: Callable[..., Server]) -> None:
    """Every acknowledged push is readable after each restart, and nothing is left half-made."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    outcome = crashes.run(serve, 200, seed)
    print(outcome.figures)
    crashes.check(outcome, 200)


@pytest.mark.timeout(1800)
def test_a_hundred_thousand_bad_requests(serve: Callable[..., Server]) -> None:
    """No answer of 500 or more, no traceback, no growth of memory."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    outcome = nonsense.run(serve, 100_000, seed)
    print(outcome.figures)
    nonsense.check(outcome, growth=40)


@pytest.mark.timeout(1800)
def test_twenty_clients_with_a_gibibyte(serve: Callable[..., Server]) -> None:
    """Memory stays below 150 MiB while all push and pull at once."""
    outcome = large.run(serve, 1024)
    print(outcome.figures)
    assert outcome.peak < 150


@pytest.mark.timeout(1800)
def test_four_thousand_clients_that_do_not_read(serve: Callable[..., Server]) -> None:
    """Another one pushes and pulls meanwhile, and the memory has a bound."""
    outcome = stalled.run(serve, 4200, 30)
    print(outcome.figures)
    assert max(outcome.seconds) < 10
    assert outcome.peak - outcome.before < 600
    assert outcome.open_at_end <= stalled.FEW
