# SPDX-License-Identifier: Apache-2.0
"""A hundred images by ten executors at once, through one intermediate registry on MinIO."""

from pathlib import Path

import pytest
import trustme

from tests.interop import executors
from tests.interop.executors import Scale
from tests.interop.registries import Identity, ours
from tests.stores.fixtures import ObjectStores
from tests.stores.fixtures import object_stores as object_stores


@pytest.mark.timeout(1800)
def test_a_hundred_images_by_ten_executors(tmp_path: Path, object_stores: ObjectStores) -> None:
    """As the test in ``tests/interop``, in full; memory has a bound."""
    server = object_stores.minio
    # MinIO is without TLS here, where no client is led to from https.
    storage = {"s3": server.settings(server.bucket()), "redirect": {"disable": True}}
    identity = Identity.make(tmp_path, trustme.CA())
    outcome = executors.run(ours(), storage, identity, Scale(100, 10, 4_000_000))
    print(outcome.figures)
    executors.write(outcome)
    assert (outcome.errors, outcome.wrong) == ([], [])
    assert outcome.peak_mib < 400
