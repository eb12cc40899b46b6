# SPDX-License-Identifier: Apache-2.0
"""The memory of bodies that are gathered whole has a bound, and small ones are never refused."""

from __future__ import annotations

import asyncio

import pytest
from buildset_registry.auth.access import Identity
from buildset_registry.errors import TooManyRequests
from buildset_registry.http.asgi import Message, Scope
from buildset_registry.http.bodies import FREE, BodyBudget
from buildset_registry.http.request import Request

KIB = 1024
MANIFEST = 4 * 1024 * KIB


class StalledClient:
    """A client that sends so many bytes, and then nothing, unless that is all."""

    def __init__(self, size: int, *, ends: bool = False) -> None:
        self.left = size
        self._ends = ends

    def receive(self) -> asyncio.Future[Message]:
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self.left or self._ends:
            body = bytes(min(256 * KIB, self.left))
            self.left -= len(body)
            more = bool(self.left) or not self._ends
            future.set_result({"type": "http.request", "body": body, "more_body": more})
        return future


def request_of(
    client: StalledClient, budget: BodyBudget, user: str = "ci", address: str = "10.0.0.1"
) -> Request:
    scope: Scope = {
        "method": "PUT",
        "path": "/v2/app/manifests/1",
        "headers": [(b"transfer-encoding", b"chunked")],
        "client": (address, 1),
    }
    made = Request(scope, client.receive, 0, budget)
    made.identity = Identity(user)
    return made


def close(request: Request) -> None:
    """Do what an application does when a request has been handled."""
    assert request.share is not None
    request.share.close()


async def stall(budget: BodyBudget, size: int) -> tuple[Request, asyncio.Task[bytes | None]]:
    """Let a client send, and wait until all has been read."""
    client = StalledClient(size)
    request = request_of(client, budget)
    task = asyncio.ensure_future(request.read(MANIFEST))
    await asyncio.sleep(0)
    assert (client.left, task.done()) == (0, False)
    return request, task


async def test_one_client_leaves_room_for_others() -> None:
    """It has three quarters; the others have a quarter, and small bodies more than that."""
    budget, held = BodyBudget(1024 * KIB), []
    for _number in range(3):
        held.append(await stall(budget, 256 * KIB + FREE))
    client = StalledClient(256 * KIB + FREE)
    with pytest.raises(TooManyRequests, match=r"from one client, ci at 10\.0\.0\.1") as no:
        await request_of(client, budget).read(MANIFEST)
    assert no.value.headers == {"Retry-After": "1"}
    other = request_of(StalledClient(256 * KIB, ends=True), budget, "zuul", "10.0.0.2")
    assert len(await other.read(MANIFEST) or b"") == 256 * KIB
    small = request_of(StalledClient(FREE, ends=True), budget)
    assert len(await small.read(MANIFEST) or b"") == FREE
    for request, task in held:
        task.cancel()
        close(request)
    again = request_of(StalledClient(256 * KIB + FREE, ends=True), budget)
    assert len(await again.read(MANIFEST) or b"") == 256 * KIB + FREE


async def test_a_host_of_ipv6_is_one_client() -> None:
    """It has 64 bits of addresses for itself."""
    budget, held = BodyBudget(1024 * KIB), []
    for number in range(3):
        client = StalledClient(256 * KIB + FREE, ends=True)
        request = request_of(client, budget, address=f"2001:db8::{number:x}")
        assert await request.read(MANIFEST)
        held.append(request)
    another = request_of(StalledClient(256 * KIB + FREE), budget, address="2001:db8::a")
    with pytest.raises(TooManyRequests, match=r"from one client, ci at 2001:db8::/64, as much as"):
        await another.read(MANIFEST)
    elsewhere = request_of(StalledClient(256 * KIB, ends=True), budget, address="2001:db8:0:1::a")
    assert await elsewhere.read(MANIFEST)


async def test_all_clients_have_the_bound_together() -> None:
    """Whoever they are; a small body passes even then."""
    budget = BodyBudget(512 * KIB)
    for number in range(2):
        full = request_of(StalledClient(256 * KIB + FREE, ends=True), budget, f"user{number}")
        assert await full.read(MANIFEST)
    one_more = request_of(StalledClient(2 * FREE), budget, "another")
    with pytest.raises(TooManyRequests, match="manifests of 0 MiB are being received, as much as"):
        await one_more.read(MANIFEST)
    small = request_of(StalledClient(FREE, ends=True), budget, "another")
    assert len(await small.read(MANIFEST) or b"") == FREE


async def test_a_body_that_is_read_counts_until_it_is_dropped() -> None:
    """To parse a manifest, and to look for its blobs, takes longer than to receive it."""
    budget = BodyBudget(256 * KIB)
    request = request_of(StalledClient(192 * KIB + FREE, ends=True), budget)
    assert await request.read(MANIFEST)
    with pytest.raises(TooManyRequests):
        await request_of(StalledClient(2 * FREE), budget).read(MANIFEST)
    close(request)
    close(request)
    assert await request_of(StalledClient(192 * KIB + FREE, ends=True), budget).read(MANIFEST)
