# SPDX-License-Identifier: Apache-2.0
"""The OCI conformance suite on the services whose servers take long."""

from pathlib import Path

import pytest

from tests.conformance.test_suite import SLOW_SERVICES, examine
from tests.stores.fixtures import ObjectStores


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", SLOW_SERVICES)
def test_every_test_of_the_suite_passes_on(
    store: str, tmp_path: Path, object_stores: ObjectStores
) -> None:
    """As in ``tests/conformance``, for the current version of the specification."""
    print(f"{store}: {examine('1.1', store, tmp_path, object_stores, 1000)}")
