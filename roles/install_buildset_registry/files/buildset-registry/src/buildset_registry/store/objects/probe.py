# SPDX-License-Identifier: Apache-2.0
"""Trying a service at the start for what the design needs of it, by an object that goes again."""

from __future__ import annotations

import time

from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Body,
    Condition,
    ConditionFailed,
    Dialect,
)

#: What credentials need; a refusal says which of it they lack.
RIGHTS = (
    "allow these credentials to list the bucket and its uploads in parts, and to read, write and "
    "delete its objects"
)
#: Seconds by which clocks may differ: S3 refuses what is signed by one that is further off, and a
#: signed URL that clients are sent to is good for little longer.
MOST_APART = 15 * 60


async def probe(dialect: Dialect, key: str) -> None:
    """Find out whether conditions and clocks can be relied on, and whether all is allowed."""
    try:
        if not await _keeps_conditions(dialect, key):
            raise ConfigError(
                "storage: this service does not keep the conditions If-None-Match and If-Match:"
                " uploads of two replicas would spoil each other; use one that does"
            )
        await _read(dialect, key)
    finally:
        await dialect.delete(key)


async def _keeps_conditions(dialect: Dialect, key: str) -> bool:
    async def refused(condition: Condition) -> bool:
        try:
            await dialect.put(key, Body(5, (b"wrong",)), condition)
        except ConditionFailed:
            return True
        return False

    first = await dialect.put(key, Body(5, (b"first",)), ABSENT)
    conditions = await refused(ABSENT)
    second = await dialect.put(key, Body(6, (b"second",)), Condition(first))
    return conditions and await refused(Condition(first)) and first != second


async def _read(dialect: Dialect, key: str) -> None:
    """Read what was written, and compare the clocks by it."""
    opened = await dialect.get(key)
    if opened is None:
        raise ConfigError("storage: what is written to this service is not there; use another one")
    async for _piece in opened.chunks:
        pass
    ahead = time.time() - opened.state.changed
    if abs(ahead) > MOST_APART:
        words = f"{abs(ahead) / 60:,.0f} minutes {'ahead of' if ahead > 0 else 'behind'}"
        raise ConfigError(
            f"storage: the clock of this machine is {words} that of the object store; set it"
        )
