# SPDX-License-Identifier: Apache-2.0
"""Sessions of which nothing has arrived: they are nowhere, and any replica knows them."""

import time

import pytest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.store.objects.sessions import may_begin, new_id

NAME = RepositoryName("example.com/app")


@pytest.mark.parametrize("minutes", [-29, 0, 29])
def test_one_of_a_replica_whose_clock_is_another_one(
    monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """Each may be a quarter of an hour from the service's when it starts, either way."""
    with monkeypatch.context() as there:
        now = time.time_ns()
        there.setattr(time, "time_ns", lambda: now + 60 * minutes * 10**9)
        upload_id = new_id(NAME)
    assert may_begin(NAME, upload_id)
    assert not may_begin(RepositoryName("example.com/other"), upload_id)
