# SPDX-License-Identifier: Apache-2.0
"""Large blobs pass through: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable

from tests.reliability import large
from tests.reliability.server import Server


def test_twenty_clients_with_large_blobs(serve: Callable[..., Server]) -> None:
    """Pushing and pulling at once stays below 150 MiB."""
    outcome = large.run(serve, 64)
    print(outcome.figures)
    assert outcome.peak < 150
