# SPDX-License-Identifier: Apache-2.0
"""A server between a registry and its service of objects that answers some requests itself."""

from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from yarl import URL

#: Answers a request, or lets it pass.
Rule = Callable[[web.Request], web.StreamResponse | None]

_PIECE = 256 * 1024
_HOP = {"transfer-encoding", "connection", "keep-alive", "content-length"}


def error(status: int, code: str, **more: str) -> web.Response:
    """Return an error as S3 tells it."""
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told</Message>{inner}</Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@dataclass
class Meddler:
    """The server: ``rule`` is asked of each request, and each is remembered."""

    url: str
    rule: Rule = lambda _request: None
    truncated: int = 0
    """How many bodies of blobs are still to be cut off in their middle."""

    lost: int = 0
    """How many answers to a state of a session that was written are still to be lost."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, times: int, make: Callable[[], web.Response], *, of: str) -> None:
        """Answer so the next requests of a method, as often as told."""
        left = [times]

        def rule(request: web.Request) -> web.Response | None:
            if request.method != of or not left[0]:
                return None
            left[0] -= 1
            return make()

        self.rule = rule


@asynccontextmanager
async def meddling(
    target: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Meddler]:
    """Run a server that passes what it does not answer to another one."""
    meddler = Meddler(f"{'https' if tls else 'http'}://127.0.0.1:{port}")
    timeout = ClientTimeout(total=60)
    async with ClientSession(
        timeout=timeout,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=["Content-Type"],
    ) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            meddler.asked.append((request.method, request.path_qs))
            body = await request.read()
            found = meddler.rule(request)
            return (
                found
                if found is not None
                else await _passed(meddler, session, target, request, body)
            )

        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        try:
            yield meddler
        finally:
            await runner.cleanup()


async def _passed(
    meddler: Meddler, session: ClientSession, target: str, request: web.Request, body: bytes
) -> web.StreamResponse:
    url = URL(f"{target}{_path_of(request)}", encoded=True)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
    async with session.request(
        request.method, url, headers=headers, data=io.BytesIO(body), allow_redirects=False
    ) as answer:
        content = await answer.read()
        told = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        if request.method == "HEAD":
            told["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=told)
        if meddler.lost and request.method == "PUT" and request.path.endswith("/state"):
            meddler.lost -= 1
            return error(500, "InternalError")
        cut = len(content)
        if meddler.truncated and request.method == "GET" and "/blobs/" in request.path:
            meddler.truncated -= 1
            cut //= 2
        passed = web.StreamResponse(status=answer.status, headers=told)
        passed.content_length = len(content)
        await passed.prepare(request)
        for start in range(0, cut, _PIECE):
            await passed.write(content[start : min(start + _PIECE, cut)])
        if cut < len(content) and request.transport is not None:
            request.transport.close()
        return passed


def _path_of(request: web.Request) -> str:
    """Return the path of a URL, which who takes the server for a proxy tells whole."""
    path = request.raw_path
    return path if path.startswith("/") else "/" + path.split("/", 3)[-1]
