# SPDX-License-Identifier: Apache-2.0
"""A registry in this process, over real TLS sockets, and clients for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trustme import CA

from tests.api.harness import Harness


@pytest.fixture(scope="module")
def authority() -> CA:
    """A certificate authority of the tests' own."""
    import trustme

    return trustme.CA()


@pytest.fixture
def harness(tmp_path: Path, authority: CA) -> Iterator[Harness]:
    """Start registries with ``harness.start(...)``; they end with the test."""
    with Harness(tmp_path, authority) as made:
        yield made


@pytest.fixture
def registry(harness: Harness) -> Any:
    """A registry with a pull and a push endpoint and no upstreams."""
    return harness.start()
