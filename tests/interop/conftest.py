# SPDX-License-Identifier: Apache-2.0
"""Programs to exchange data directories between."""

from pathlib import Path

import pytest
import trustme

from tests.interop.registries import Identity, Program, distribution, ours
from tests.stores.fixtures import object_stores as object_stores


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """A certificate and users for the registries of one test."""
    return Identity.make(tmp_path, trustme.CA())


@pytest.fixture
def registry() -> Program:
    """This project's registry."""
    return ours()


@pytest.fixture(params=["2.8", "3"])
def other(request: pytest.FixtureRequest) -> Program:
    """A version of distribution: Debian's package, and the newest, of tools/go-tools."""
    binary = "docker-registry" if request.param == "2.8" else "registry"
    return distribution(f"distribution-{request.param}", binary)
