# SPDX-License-Identifier: Apache-2.0
"""Servers that stand in for other registries, on this host's own addresses."""

import asyncio
import contextlib
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Protocol

from aiohttp import web
from aiohttp.web import BaseRequest, Response, StreamResponse
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.transport import Timeouts

NAME = RepositoryName("quay.io/org/app")
V1 = Tag("v1")
MANIFEST = b'{"schemaVersion": 2, "manifests": []}'
BLOB = bytes(range(256)) * 40
BLOB_DIGEST = Digest.of(BLOB)
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

V1_PATH = "/v2/org/app/manifests/v1"
BLOB_PATH = f"/v2/org/app/blobs/{BLOB_DIGEST}"

#: What a server answers to a request.
Answer = Callable[[BaseRequest], Awaitable[StreamResponse]]


class Connect(Protocol):
    """The fixture that makes clients of the registry that the tests configure as quay.io."""

    def __call__(
        self,
        environment: dict[str, str] | None = None,
        timeouts: Timeouts | None = None,
        **settings: Any,
    ) -> UpstreamClient:
        """Make a client; ``settings`` change the upstream, ``environment`` its proxies."""


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


class Server:
    """Answers by a table of paths and remembers what it was asked."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.url = f"{scheme}://{host}:{port}"
        self.port = port
        self.asked: list[Asked] = []
        self._table: dict[str, list[Answer]] = {}

    def on(self, path: str, *answers: Answer) -> None:
        """Give ``answers`` one after the other, the last one for ever."""
        self._table[path] = list(answers)

    @property
    def paths(self) -> list[str]:
        """The paths that it knows."""
        return [*self._table]

    def at(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    async def handle(self, request: BaseRequest) -> StreamResponse:
        headers = dict(request.headers)
        self.asked.append(
            Asked(request.method, request.path, request.rel_url.raw_query_string, headers)
        )
        answers = self._table.get(request.path, [reply(404)])
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        return await answer(request)


@contextlib.asynccontextmanager
async def serving(
    context: SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Run a server; with ``context``, by TLS."""
    runner = web.ServerRunner(
        web.Server(lambda request: server.handle(request)), shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=context)
    await site.start()
    server = Server("https" if context else "http", host, runner.addresses[0][1])
    try:
        yield server
    finally:
        await runner.cleanup()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """Answer always the same; ``Content_Type`` stands for ``Content-Type``."""

    async def answer(request: BaseRequest) -> Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return answer


def gated(gate: Event, answer: Answer) -> Answer:
    """Answer once ``gate`` is set."""

    async def wait(request: BaseRequest) -> StreamResponse:
        await gate.wait()
        return await answer(request)

    return wait


def by_method(**answers: Answer) -> Answer:
    """Answer GET and HEAD differently."""

    async def choose(request: BaseRequest) -> StreamResponse:
        return await answers[request.method](request)

    return choose


def manifest(body: bytes = MANIFEST, media_type: str = INDEX_TYPE, **headers: str) -> Answer:
    return reply(200, body, Content_Type=media_type, **headers)


def redirect(location: str, status: int = 307) -> Answer:
    return reply(status, b"elsewhere", Location=location)


def blob(content: bytes = BLOB) -> Answer:
    """Answer as a registry that knows Range."""

    async def answer(request: BaseRequest) -> Response:
        start = request.http_range.start or 0
        if start >= len(content) > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
        if not start:
            return web.Response(body=content)
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return web.Response(status=206, body=content[start:], headers={"Content-Range": place})

    return answer


def halting(gate: Event, content: bytes, after: int) -> Answer:
    """Send ``content`` up to ``after``, and the rest once ``gate`` is set."""

    async def answer(request: BaseRequest) -> StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[:after])
        await gate.wait()
        await response.write(content[after:])
        return response

    return answer


def breaking(content: bytes, after: int, promised: int | None = None) -> Answer:
    """Promise all of ``content``, or another length, and end the connection after so many bytes."""

    async def answer(request: BaseRequest) -> StreamResponse:
        start = request.http_range.start or 0
        length = len(content) if promised is None else promised
        headers = {"Content-Length": str(length - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{length - 1}/{length}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await response.write(content[start:after])
        await asyncio.sleep(0.05)
        assert request.transport
        request.transport.abort()
        return response

    return answer


def hanging_up() -> Answer:
    """End the connection instead of an answer."""

    async def answer(request: BaseRequest) -> Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    return answer


def slow(seconds: float, body: bytes = b"late") -> Answer:
    async def answer(request: BaseRequest) -> StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(body=body)

    return answer


def streamed(*pieces: bytes) -> Answer:
    """Answer without telling the length."""

    async def answer(request: BaseRequest) -> StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


def guarded(answer: Answer, *accepted: str, challenge: str) -> Answer:
    """Answer only to one of the ``Authorization`` headers, otherwise challenge."""

    async def guard(request: BaseRequest) -> StreamResponse:
        if request.headers.get("Authorization") in accepted:
            return await answer(request)
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    return guard


class ConnectProxy:
    """A proxy that leads every host to this one, and remembers who was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.refusal: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.asked.append(head)
        if self.refusal:
            writer.write(self.refusal)
        else:
            port = int(head[0].split()[1].rpartition(":")[2])
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_pump(reader, onward_writer), _pump(onward_reader, writer))
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
