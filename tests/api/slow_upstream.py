# SPDX-License-Identifier: Apache-2.0
"""A registry that sends at a set rate and keeps a log of its own; a program of its own, too.

``python -m tests.api.slow_upstream FOLDER BYTES_PER_SECOND`` serves, by the certificate in
``server.pem`` there, ``content/PATH`` for ``/PATH`` and appends a line to ``requests.log`` when a
request begins and when its answer is sent.
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

from aiohttp import web

_PIECE = 128 * 1024


class Upstream:
    """Sends files slowly."""

    def __init__(self, folder: Path, rate: float) -> None:
        self._folder = folder
        self._rate = rate
        self._log = (folder / "requests.log").open("a", buffering=1)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._note("begin", request)
        path = self._folder / "content" / request.path.lstrip("/")
        if not path.is_file():
            return web.Response(status=404)
        kind = "application/vnd.oci.image.manifest.v1+json"
        headers = {"Content-Type": kind if "/manifests/" in request.path else "binary/octet-stream"}
        headers["Content-Length"] = str(path.stat().st_size)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "GET":
            await self._send(path, response)
        self._note("end", request)
        return response

    async def _send(self, path: Path, response: web.StreamResponse) -> None:
        began, sent = time.monotonic(), 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                await response.write(piece)
                sent += len(piece)
                await asyncio.sleep(began + sent / self._rate - time.monotonic())

    def _note(self, what: str, request: web.BaseRequest) -> None:
        line = {
            "what": what,
            "method": request.method,
            "path": request.path,
            "range": request.headers.get("Range"),
            "authorization": request.headers.get("Authorization"),
            "at": time.monotonic(),
        }
        self._log.write(json.dumps(line) + "\n")


async def main(folder: Path, rate: float) -> None:
    upstream = Upstream(folder, rate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    runner = web.ServerRunner(web.Server(upstream.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    waiting = folder / "port.new"
    waiting.write_text(str(runner.addresses[0][1]))
    waiting.rename(folder / "port")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
