# SPDX-License-Identifier: Apache-2.0
"""Fifty clients, one image that nobody has yet, and an upstream that takes its time."""

from pathlib import Path

from trustme import CA

from tests.api import crowd


def test_fifty_clients_and_a_slow_upstream(tmp_path: Path, authority: CA) -> None:
    """Upstream is asked once for each part, all clients read while it sends, a slow one slows none.

    It leaves in the middle, which spoils nothing; nobody's credentials reach upstream.
    """
    outcome = crowd.run(tmp_path, authority, crowd.Scale(50, 64, 10, 1))
    crowd.check(outcome)
