# SPDX-License-Identifier: Apache-2.0
"""A registry in this process, over real TLS sockets, and clients for it."""

import pytest

from tests.api.harness import Harness


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of the tests' own."""
    import trustme

    return trustme.CA()


@pytest.fixture
def harness(tmp_path, authority):
    """Start registries with ``harness.start(...)``; they end with the test."""
    with Harness(tmp_path, authority) as made:
        yield made


@pytest.fixture
def registry(harness):
    """A registry with a pull and a push endpoint and no upstreams."""
    return harness.start()
