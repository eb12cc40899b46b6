# SPDX-License-Identifier: Apache-2.0
"""A service that stalls: nobody waits for ever, and nobody who gets further is interrupted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

import pytest
from buildset_registry.store.objects.connection import (
    ServiceAnswer,
    ServiceConnection,
    ServiceRequest,
)
from buildset_registry.store.objects.content import ContentStream
from buildset_registry.store.objects.dialect import Body, ObjectFailure
from buildset_registry.store.objects.failures import Patience

_Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MIB = bytes(1024 * 1024)
BODY = Body(32 * len(MIB), (MIB,) * 32)


class Nobody:
    """A keeper of credentials that has none."""

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        return request.headers

    async def renew(self) -> bool:
        return False


@asynccontextmanager
async def serving(answer: _Answer) -> AsyncIterator[str]:
    """Run a service that does so with each connection, all of which it ends at last."""
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await answer(reader, writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


@asynccontextmanager
async def taking(seconds: float | None) -> AsyncIterator[str]:
    """Run a service that takes what is sent with a pause of some seconds; None: nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seconds is None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            return
        assert b"Content-Length" in head
        left = BODY.size
        for _ in range(4):
            await asyncio.sleep(seconds)
            left -= len(await reader.readexactly(BODY.size // 4))
        assert not left
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(take) as url:
        yield f"{url}/object"


async def test_a_body_that_nobody_takes_is_given_up() -> None:
    """A service that was stopped has the connection, and reads nothing of it."""
    patience = Patience(read=0.2, tries=2, pause=0.01)
    async with (
        taking(None) as url,
        aclosing(ServiceConnection(Nobody(), tls=True, patience=patience)) as connection,
    ):
        asked = connection.ask(ServiceRequest("PUT", url, body=BODY))
        with pytest.raises(ObjectFailure, match=r"nothing for 0\.2 s"):
            await asyncio.wait_for(asked, 60)


async def test_a_body_that_is_taken_slowly_arrives() -> None:
    """All of it takes longer than a service may be silent."""
    patience = Patience(read=0.5, tries=1)
    async with (
        taking(0.2) as url,
        aclosing(ServiceConnection(Nobody(), tls=True, patience=patience)) as connection,
    ):
        answer = await connection.ask(ServiceRequest("PUT", url, body=BODY))
    assert answer.status == 200


@asynccontextmanager
async def giving() -> AsyncIterator[str]:
    """Run a service that has an endless object, and one that is empty."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = 0 if b"/empty" in head else 1 << 40
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
                while size:
                    writer.write(MIB)
                    await writer.drain()

    async with serving(give) as url:
        yield url


def stream_of(answer: ServiceAnswer) -> ContentStream:
    assert answer.stream is not None
    return answer.stream


async def test_who_reads_slowly_keeps_nobody_waiting_and_little_memory() -> None:
    """Each has a connection of its own, and the less is read ahead the more there are."""
    async with (
        giving() as url,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        content = ServiceRequest("GET", f"{url}/object", streamed=True)
        slow = [await connection.ask(content) for _number in range(260)]
        answer = await asyncio.wait_for(connection.ask(ServiceRequest("GET", f"{url}/empty")), 60)
        assert answer.status == 200
        pieces = [len(await stream_of(one).read(len(MIB))) for one in slow]
        pieces = [len(await stream_of(one).read(len(MIB))) for one in slow]
        assert 0 < sum(pieces) <= len(slow) * 64 * 1024
        for one in slow:
            one.close()
        last = await connection.ask(content)
        while len(await stream_of(last).read(len(MIB))) < len(MIB):  # what had arrived comes first
            continue
        last.close()


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "GET"])
async def test_who_is_cancelled_waits_for_a_change_that_is_on_its_way(method: str) -> None:
    """The service makes it all the same, and would after what is asked for next."""
    arrived, changed = asyncio.Event(), asyncio.Event()

    async def change(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.sleep(0.05)
        changed.set()
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    async with (
        serving(change) as url,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        asking = asyncio.ensure_future(connection.ask(ServiceRequest(method, f"{url}/object")))
        await arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert changed.is_set() == (method != "GET")


async def test_who_is_cancelled_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that stalls keeps nobody from ending."""
    monkeypatch.setattr("buildset_registry.store.objects.connection._BROKEN_OFF", 0.05)
    async with (
        taking(None) as url,
        aclosing(ServiceConnection(Nobody(), tls=True)) as connection,
    ):
        asking = asyncio.ensure_future(connection.ask(ServiceRequest("PUT", url, body=BODY)))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asking, 60)
