# SPDX-License-Identifier: Apache-2.0
"""Fifty clients, one image of 1 GiB that nobody has yet, an upstream that sends 100 MB a second."""

from pathlib import Path

import pytest
from trustme import CA

from tests.api import crowd


@pytest.mark.timeout(900)
def test_fifty_clients_and_a_gibibyte(tmp_path: Path, authority: CA) -> None:
    """As the test of that name in ``tests/api``, in full size; memory stays flat."""
    outcome = crowd.run(tmp_path, authority, crowd.Scale(50, 1024, 100e6 / 2**20, 1))
    print(outcome.figures)
    crowd.check(outcome)
    assert outcome.memory_mib < 150
