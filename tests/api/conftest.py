# SPDX-License-Identifier: Apache-2.0
"""A registry in this process, over real sockets, in every configuration; and clients for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trustme import CA

from tests.api.configurations import Configuration, rows
from tests.api.harness import Harness, Registry


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark of ``only`` known."""
    config.addinivalue_line("markers", "only(*which, why): run in these configurations only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what starts a registry in each configuration that it does not leave out."""
    if "configuration" in metafunc.fixturenames:
        chosen = rows(metafunc.definition.iter_markers("only"))
        assert chosen, "no configuration is left"
        metafunc.parametrize("configuration", chosen, ids=lambda row: row.name)


@pytest.fixture(scope="session")
def authority() -> CA:
    """A certificate authority of the tests' own."""
    return CA()


@pytest.fixture
def harness(tmp_path: Path, authority: CA, configuration: Configuration) -> Iterator[Harness]:
    """Start registries with ``harness.start(...)``; they end with the test."""
    with Harness(tmp_path, authority, configuration) as made:
        yield made


@pytest.fixture
def registry(harness: Harness) -> Registry:
    """A registry without upstreams."""
    return harness.start()
