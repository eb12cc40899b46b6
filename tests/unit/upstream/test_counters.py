# SPDX-License-Identifier: Apache-2.0
"""The limits that upstreams tell, as Docker Hub does, or in ways that mean nothing."""

from __future__ import annotations

import logging

import pytest
from buildset_registry.upstream.counters import RateLimit

from tests.unit.upstream.lab import MANIFEST, NAME, V1, V1_PATH, Connect, Server, reply


def told(limit: str, remaining: str) -> dict[str, str]:
    """Return the headers of an answer."""
    return {"ratelimit-limit": limit, "ratelimit-remaining": remaining}


@pytest.mark.parametrize(
    ("limit", "remaining", "found"),
    [
        ("100;w=21600", "76;w=21600", (100, 76, 21600)),
        ("200", "0", (200, 0, 0)),
        (" 100 ; w=60", "1", (100, 1, 60)),
        ("100;w=x", "5", (100, 5, 0)),
    ],
)
def test_a_limit_is_read_with_its_window(
    limit: str, remaining: str, found: tuple[int, int, int]
) -> None:
    """The window is the seconds after which it begins anew."""
    read = RateLimit.read(told(limit, remaining), 7.0)
    assert read == RateLimit(*found, 7.0)


@pytest.mark.parametrize(
    ("limit", "remaining"), [("", "1"), ("1", ""), ("-1", "1"), ("many", "some"), ("\u0661", "x")]
)
def test_what_is_no_limit_is_left_out(limit: str, remaining: str) -> None:
    """An upstream may send any header."""
    assert RateLimit.read(told(limit, remaining), 0) is None


async def test_few_pulls_that_are_left_are_said_once(
    quay: Server, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time that less than a fifth is left, not with each pull."""
    left = ("50", "19", "18", "90", "3")
    answers = [reply(200, MANIFEST, **told("100;w=21600", number)) for number in left]
    quay.on(V1_PATH, *answers)
    client = connect()
    with caplog.at_level(logging.WARNING):
        for _number in left:
            await client.manifest(NAME, V1)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "upstream quay.io: 19 of 100 pulls in 6 hours are left; log in or set a mirror in its "
        "configuration",
        "upstream quay.io: 3 of 100 pulls in 6 hours are left; log in or set a mirror in its "
        "configuration",
    ]
    assert client.counters.limits["quay.io"].remaining == 3
