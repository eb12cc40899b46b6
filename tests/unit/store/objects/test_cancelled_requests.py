# SPDX-License-Identifier: Apache-2.0
"""Requests over a service that are cancelled at any moment, and followed at once by the same again.

A part whose sending was broken off was taken to have arrived: the blob had a hole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from buildset_registry.oci.digest import Digest
from buildset_registry.registry import Registry
from buildset_registry.store import open_store
from buildset_registry.store.objects import staging

from tests.stores.fixtures import ObjectStores
from tests.unit.store.impatience import is_cut
from tests.unit.store.objects.test_kills import NAME
from tests.unit.store.objects.test_repeated_commits import SERVICES, Failing
from tests.unit.store.objects.test_staging import is_whole
from tests.unit.store.test_cancelled_requests import patch, put, put_again

#: More waits than a request has.
_MOST = 100
#: The services, the requests that are cancelled, and at each how many-th wait: some take long.
_CASES = [
    ("azure", "whole", 1),
    ("azure", "last", 1),
    ("s3", "small", 1),
    ("s3", "whole", 1),
    ("s3", "first", 1),
    ("s3", "last", 1),
    ("swift", "first", 3),
    ("swift", "last", 5),
]


@pytest.fixture
async def replica(
    request: pytest.FixtureRequest, object_stores: ObjectStores, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Failing, int]]:
    """A replica that moves nothing meanwhile, and the bytes of a part."""
    monkeypatch.setattr(staging, "_QUIET", 100.0)
    config, part = SERVICES[request.param]
    async with aclosing(await open_store(config(object_stores))) as store:
        yield Failing(store), part


@pytest.mark.parametrize(("replica", "what", "step"), _CASES, indirect=["replica"])
async def test_a_blob_that_is_pushed(replica: tuple[Failing, int], what: str, step: int) -> None:
    """By one request, small or in parts; by two, of which the first or the last is cancelled."""
    failing, part = replica
    registry = Registry(failing.store)
    for turn, number in enumerate(range(1, _MOST, step)):
        content = number.to_bytes(4, "big") + bytes(1000 if what == "small" else part)
        digest = Digest.of(content)
        upload = await registry.start_upload(NAME)
        if what == "last":
            await patch(registry, upload, content)
        request = patch if what == "first" else put
        cut = await is_cut(number, request(registry, upload, content), 1 + turn % 2)
        assert +failing.flying == {}, number
        if cut or what == "first":
            await put_again(registry, upload, content)
        assert await is_whole(failing.store, digest, content), number
        assert await failing.store.pushed(NAME).layers.has(digest), number
        if not cut:
            break
    assert 1 < number < _MOST - step
    assert await failing.store.uploads.all() == []
