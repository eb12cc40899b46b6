# SPDX-License-Identifier: Apache-2.0
"""What the long tests share with the short ones, and the room on the disk that they need."""

import shutil

import pytest

from tests.reliability.conftest import authority, serve
from tests.reliability.large import CLIENTS
from tests.stores.fixtures import object_stores

__all__ = ["authority", "object_stores", "serve"]

_GIB = 1024**3
#: Each of the clients pushes 1 GiB; the others need less, and what a test wrote goes at its end.
_NEEDED = (CLIENTS + 2) * _GIB


@pytest.fixture(scope="session", autouse=True)
def _room(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Say at the start that the disk is too full, not after minutes by a broken push."""
    folder = tmp_path_factory.getbasetemp()
    free = shutil.disk_usage(folder).free
    if free < _NEEDED:
        needed = f"{_NEEDED / _GIB:.0f} GiB free in {folder}"
        pytest.fail(f"the soak needs {needed}, and there are {free / _GIB:.1f}", pytrace=False)
