# SPDX-License-Identifier: Apache-2.0
"""Limits of what clients use at once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from buildset_registry.errors import TooManyRequests
from buildset_registry.http.context import Crowd, UploadLimit
from buildset_registry.http.request import Request
from buildset_registry.http.senders import Sender
from buildset_registry.oci.names import RepositoryName

NAME = RepositoryName("app")
UPLOAD: Any = None
CI = Sender("ci", "10.0.0.1")


def test_a_quarter_of_the_uploads_is_for_others() -> None:
    """Whoever sends slowly, and as many as there may be, keeps nobody else from pushing."""
    limit = UploadLimit(8)
    with ExitStack() as stack:
        for _number in range(6):
            stack.enter_context(limit.one(NAME, UPLOAD, CI))
        with pytest.raises(TooManyRequests, match=r"6 uploads.*allows to one client, ci at 10"):
            stack.enter_context(limit.one(NAME, UPLOAD, CI))
        for other in (Sender("ci", "10.0.0.2"), Sender("zuul", "10.0.0.1")):
            stack.enter_context(limit.one(NAME, UPLOAD, other))
        with pytest.raises(TooManyRequests, match=r"8 uploads are running, as many as limits.up"):
            stack.enter_context(limit.one(NAME, UPLOAD, Sender("zuul", "10.0.0.3")))
    with limit.one(NAME, UPLOAD, CI):
        assert limit.running == 1


@pytest.mark.parametrize("most", [0, 1])
def test_one_upload_there_may_always_be(most: int) -> None:
    """A limit of 0 is none."""
    limit = UploadLimit(most)
    with limit.one(NAME, UPLOAD, CI):
        assert limit.running == 1


async def _nothing() -> Any:
    """Receive nothing."""


def request_from(address: str) -> Request:
    scope = {"method": "GET", "path": "/v2/", "headers": [], "client": (address, 1)}
    return Request(scope, _nothing)


def begin(crowd: Crowd, *addresses: str) -> None:
    for address in addresses:
        request = request_from(address)
        crowd.begin(request.client, request.network)


def end(crowd: Crowd, address: str) -> None:
    crowd.end(address, request_from(address).network)


def check(crowd: Crowd, address: str) -> None:
    crowd.check(address, request_from(address).network)


def test_a_full_crowd_refuses_who_has_most() -> None:
    """There are no more than there are descriptors for, however many clients left theirs behind."""
    crowd = Crowd(most_of_all=6)
    begin(crowd, *["10.0.0.1"] * 4, *["10.0.0.2"] * 2)
    check(crowd, "10.0.0.1")
    begin(crowd, "10.0.0.3")
    check(crowd, "10.0.0.3")
    begin(crowd, "10.0.0.1")
    with pytest.raises(TooManyRequests, match=r"7 requests are under way \(limits.connections\)"):
        check(crowd, "10.0.0.1")
    for _number in range(5):
        end(crowd, "10.0.0.1")
    check(crowd, "10.0.0.2")


def test_a_full_crowd_of_one_refuses_it() -> None:
    crowd = Crowd(most_of_all=2)
    begin(crowd, *["10.0.0.1"] * 3)
    with pytest.raises(TooManyRequests, match="2 requests are under way"):
        check(crowd, "10.0.0.1")


def test_a_host_of_ipv6_has_most_by_all_its_addresses_together() -> None:
    """It could leave each request behind by another one; many nodes of a network may share it."""
    crowd = Crowd(most=1, most_of_all=5)
    begin(crowd, *[f"2001:db8::{number}" for number in range(4)])
    check(crowd, "2001:db8::3")
    begin(crowd, "2001:db8:0:1::1", "2001:db8:0:1::2")
    check(crowd, "2001:db8:0:1::2")
    with pytest.raises(TooManyRequests, match="5 requests are under way"):
        check(crowd, "2001:db8::3")
    end(crowd, "2001:db8::3")
    check(crowd, "2001:db8::2")
    assert not crowd.running.get("2001:db8::3")
