# SPDX-License-Identifier: Apache-2.0
"""Several executors use one intermediate registry on MinIO; the soak has a hundred images."""

from tests.interop import executors
from tests.interop.executors import Scale
from tests.interop.registries import Identity, Program
from tests.stores.fixtures import ObjectStores


def test_ten_images_by_four_executors(
    object_stores: ObjectStores, identity: Identity, registry: Program
) -> None:
    """Nothing goes wrong, and every image is what it was."""
    server = object_stores.minio
    # MinIO is without TLS here, where no client is led to from https.
    storage = {"s3": server.settings(server.bucket()), "redirect": {"disable": True}}
    outcome = executors.run(registry, storage, identity, Scale(10, 4, 200_000))
    executors.write(outcome)
    assert (outcome.errors, outcome.wrong) == ([], [])
    assert outcome.peak_mib < 400
