# SPDX-License-Identifier: Apache-2.0
"""A service that stalls: nobody waits for ever, and nobody who gets further is interrupted."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import pytest
from buildset_registry.store.objects.connection import ServiceConnection, ServiceRequest
from buildset_registry.store.objects.dialect import Body, ObjectFailure
from buildset_registry.store.objects.failures import Patience

MIB = bytes(1024 * 1024)
BODY = Body(32 * len(MIB), (MIB,) * 32)


class Nobody:
    """A keeper of credentials that has none."""

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        return request.headers

    async def renew(self) -> bool:
        return False


@asynccontextmanager
async def taking(seconds: float | None) -> AsyncIterator[str]:
    """Run a service that takes what is sent with a pause of some seconds; None: nothing."""
    held: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
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

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/object"
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


async def test_a_body_that_nobody_takes_is_given_up() -> None:
    """A service that was stopped has the connection, and reads nothing of it."""
    patience = Patience(read=0.2, tries=2, pause=0.01)
    async with (
        taking(None) as url,
        aclosing(ServiceConnection(Nobody(), tls=True, patience=patience)) as connection,
    ):
        asked = connection.ask(ServiceRequest("PUT", url, body=BODY))
        with pytest.raises(ObjectFailure, match=r"nothing for 0\.2 s"):
            await asyncio.wait_for(asked, 10)


async def test_a_body_that_is_taken_slowly_arrives() -> None:
    """All of it takes longer than a service may be silent."""
    patience = Patience(read=0.5, tries=1)
    async with (
        taking(0.2) as url,
        aclosing(ServiceConnection(Nobody(), tls=True, patience=patience)) as connection,
    ):
        answer = await connection.ask(ServiceRequest("PUT", url, body=BODY))
    assert answer.status == 200
