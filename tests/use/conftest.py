# SPDX-License-Identifier: Apache-2.0
"""Nodes that are folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.use.places import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A node that root configures."""
    return Place.make(tmp_path / "node")


@pytest.fixture
def users_place(tmp_path: Path) -> Place:
    """A node that an ordinary user configures for himself."""
    return Place.make(tmp_path / "node", is_root=False)
