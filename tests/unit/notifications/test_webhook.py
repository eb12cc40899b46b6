# SPDX-License-Identifier: Apache-2.0
"""Webhooks: retry, order, what is lost, and that nobody waits for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from buildset_registry.errors import ConfigError
from buildset_registry.notifications.events import MEDIA_TYPE, Cause, Event, Source, Target
from buildset_registry.notifications.webhook import Receiver, Webhook

Answer = int | Literal["hang"]
CAUSE = Cause(client="192.0.2.1", host="r:5000", method="PUT", agent="test", user="ci")


def event(tag: str, action: str = "push", media_type: str = "application/x") -> Event:
    return Event(action, Target(repository="org/app", tag=tag, media_type=media_type), CAUSE)


class Inbox:
    """A receiver that answers as it is told."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self._answers = list(answers)
        self.tags: list[str] = []
        self.requests: list[web.Request] = []
        self.arrived = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        status = self._answers.pop(0) if self._answers else 200
        if status == "hang":
            await asyncio.sleep(30)
            return web.Response()
        self.requests.append(request)
        if status < 400:
            (one,) = (await request.json())["events"]
            self.tags.append(one["target"]["tag"])
        self.arrived.set()
        return web.Response(status=status)

    async def wait_for(self, number: int) -> None:
        while len(self.tags) < number:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 60)


@contextlib.asynccontextmanager
async def inbox(*answers: Answer) -> AsyncIterator[tuple[Inbox, str]]:
    """Serve an inbox; yields it and its URL."""
    made = Inbox(answers)
    runner = web.AppRunner(_application(made), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield made, f"http://127.0.0.1:{port}/events"
    finally:
        await runner.cleanup()


def _application(made: Inbox) -> web.Application:
    application = web.Application()
    application.router.add_post("/events", made.handle)
    return application


@contextlib.asynccontextmanager
async def webhook(url: str, **settings: Any) -> AsyncIterator[Webhook]:
    made = Webhook(Receiver(name="ci", url=url, **settings), Source(5000))
    try:
        yield made
    finally:
        await made.close()


async def test_an_event_is_posted_with_the_headers_of_the_receiver() -> None:
    """In the media type of distribution, whose users know it."""
    async with inbox() as (box, url), webhook(url, headers={"Authorization": "Bearer x"}) as hook:
        hook.put(event("v1"))
        await box.wait_for(1)
    (request,) = box.requests
    assert request.headers["content-type"] == MEDIA_TYPE
    assert request.headers["authorization"] == "Bearer x"
    assert (hook.sent, hook.failed, hook.lost, hook.waiting) == (1, 0, 0, 0)


async def test_what_fails_is_sent_again_and_in_order() -> None:
    """A receiver that is down for a while misses nothing."""
    async with inbox(500, 503, 429) as (box, url), webhook(url, wait=0.01) as hook:
        for number in range(5):
            hook.put(event(f"v{number}"))
        await box.wait_for(5)
    assert box.tags == ["v0", "v1", "v2", "v3", "v4"]
    assert hook.failed == 3


async def test_a_receiver_that_hangs_is_asked_again() -> None:
    """After the time that it has to answer."""
    async with inbox("hang") as (box, url), webhook(url, wait=0.01, timeout=0.2) as hook:
        hook.put(event("v1"))
        await box.wait_for(1)
    assert hook.failed == 1


async def test_what_a_receiver_refuses_for_good_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """It does not hold up what follows."""
    async with inbox(400) as (box, url), webhook(url) as hook:
        hook.put(event("bad"))
        hook.put(event("good"))
        await box.wait_for(1)
    assert box.tags == ["good"]
    assert hook.lost == 1
    assert "ci refuses a notification: it answers 400" in caplog.text


async def test_a_full_queue_loses_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    """And never keeps whoever puts an event waiting."""
    async with inbox() as (box, url), webhook(url, room=3) as hook:
        for number in range(10):
            hook.put(event(f"v{number}"))
        await box.wait_for(3)
    assert box.tags == ["v7", "v8", "v9"]
    assert hook.lost == 7
    assert caplog.text.count("its queue is full") == 1


async def test_what_a_receiver_does_not_want_is_not_sent() -> None:
    """By action and by media type."""
    ignored = {"ignored_actions": frozenset({"pull"}), "ignored_media_types": frozenset({"b"})}
    async with inbox() as (box, url), webhook(url, **ignored) as hook:
        hook.put(event("1", "pull"))
        hook.put(event("2", "push", "b"))
        hook.put(event("3"))
        await box.wait_for(1)
    assert box.tags == ["3"]


async def test_the_end_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that is away does not keep the process."""
    hook = Webhook(Receiver(name="ci", url="http://127.0.0.1:1/", wait=0.01), Source(5000))
    hook.put(event("v1"))
    await hook.close(0.2)
    assert "1 notifications to ci are lost" in caplog.text
    assert "notification to ci failed" in caplog.text


async def test_a_ca_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """At the start, not at the first event."""
    with pytest.raises(ConfigError, match=r"notifications: the ca .* of ci cannot be used"):
        Webhook(Receiver(name="ci", url="https://r", ca=tmp_path / "none.pem"), Source(1))


def test_headers_are_in_no_repr() -> None:
    """They hold passwords."""
    assert "secret" not in repr(Receiver(name="a", url="b", headers={"Authorization": "secret"}))
