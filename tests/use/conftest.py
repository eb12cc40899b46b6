# SPDX-License-Identifier: Apache-2.0
"""Nodes that are folders, and a registry that they use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.use.places import Place
from tests.use.receiving import Receiving, receiving


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A node that root configures."""
    return Place.make(tmp_path / "node")


@pytest.fixture
def users_place(tmp_path: Path) -> Place:
    """A node that an ordinary user configures for himself."""
    return Place.make(tmp_path / "node", is_root=False)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Receiving]:
    """A registry for the canary."""
    with receiving(tmp_path, trustme.CA()) as made:
        yield made
