# SPDX-License-Identifier: Apache-2.0
"""A proxy that has lost its service: what it says of objects is no word of the service's."""

from __future__ import annotations

import pytest
from aiohttp import web
from buildset_registry.store.objects.dialect import Body, Dialect, ObjectFailure

from tests.unit.store.objects.meddler import Meddler


async def check_that_a_proxys_404_tells_of_nothing(
    dialect: Dialect, meddler: Meddler, key: str
) -> None:
    """Nothing is taken for gone, or for removed, because of it; what is gone is told as such."""
    await dialect.put(key, Body(3, (b"one",)))
    meddler.rule = lambda _request: web.Response(status=404, text="404 page not found")
    for asked in (dialect.head(key), dialect.get(key), dialect.delete(key)):
        with pytest.raises(ObjectFailure, match="404"):
            await asked
    meddler.rule = lambda _request: None
    assert await dialect.head(key)
    for _ in range(2):
        await dialect.delete(key)
        assert await dialect.head(key) is None
        assert await dialect.get(key) is None
