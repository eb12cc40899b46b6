# SPDX-License-Identifier: Apache-2.0
"""The OCI conformance suite on services whose servers run for these tests anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.test_suite import SLOW_SERVICES, examine
from tests.stores.fixtures import ObjectStores


@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", SLOW_SERVICES)
def test_every_test_of_the_suite_passes_on(
    store: str, tmp_path: Path, object_stores: ObjectStores
) -> None:
    """As in ``tests/conformance``, for the current version of the specification."""
    assert examine("1.1", store, tmp_path, object_stores, 500).startswith("830 passed, 0 failed")
