# SPDX-License-Identifier: Apache-2.0
"""Bad requests to every route: an answer below 500, no traceback, nothing outside the store."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.reliability import nonsense
from tests.reliability.server import Server


def test_four_thousand_bad_requests(serve: Callable[..., Server]) -> None:
    """Whatever is asked, the registry says what is wrong, and forgets it."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    outcome = nonsense.run(serve, 4000, seed)
    print(outcome.figures)
    nonsense.check(outcome, growth=40)
