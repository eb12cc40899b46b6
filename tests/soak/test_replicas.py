# SPDX-License-Identifier: Apache-2.0
"""Replicas on one bucket of MinIO, killed two hundred times."""

import random
from pathlib import Path

import pytest

from tests.stores import storm
from tests.stores.buckets import Bucket
from tests.stores.fixtures import ObjectStores


@pytest.mark.timeout(3600)
def test_replicas_are_killed_two_hundred_times(tmp_path: Path, object_stores: ObjectStores) -> None:
    """Every acknowledged image is found, and two days later no part of an upload is left."""
    bucket, seed = Bucket(object_stores.minio), random.randrange(2**32)
    print(f"seed {seed}")
    outcome = storm.run(storm.replicas_of(tmp_path, bucket), bucket, 200, seed)
    print(outcome.figures)
    storm.check(outcome, 200)
