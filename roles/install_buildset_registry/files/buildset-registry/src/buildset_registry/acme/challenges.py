# SPDX-License-Identifier: Apache-2.0
"""The answers to challenges: published for all replicas, and given by a listener or a web server.

The authority asks ``http://NAME/.well-known/acme-challenge/TOKEN`` (RFC 8555, section 8.3), and may
get to any replica, so each finds the answer among the shared documents.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from buildset_registry.acme.authority import OrderFailed
from buildset_registry.errors import ConfigError
from buildset_registry.parallel import to_its_end
from buildset_registry.store.documents import Documents, read_content

PATH = "/.well-known/acme-challenge/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Whoever asks gets so long to say what; so many may ask at once. One more has the one that has
#: taken longest turned away: who says nothing keeps no authority out.
_HEAD_SECONDS = 10.0
_HEAD_BYTES = 8192
_AT_ONCE = 32


class Challenges:
    """The answers that are to be given now."""

    def __init__(self, documents: Documents, webroot: Path | None = None) -> None:
        self._documents = documents
        self._webroot = webroot

    async def publish(self, answers: Mapping[str, str]) -> None:
        """Let whoever asks for a token have its answer."""
        for token, answer in answers.items():
            if _TOKEN.fullmatch(token) is None:
                raise OrderFailed("the ACME server sent a token that is none")
            await self._documents.write(_name(token), answer.encode())
            if self._webroot is not None:
                await to_its_end(asyncio.to_thread(_write, self._webroot, token, answer))

    async def withdraw(self, answers: Mapping[str, str]) -> None:
        """Forget answers."""
        for token in filter(_TOKEN.fullmatch, answers):
            await self._documents.remove(_name(token))
            if self._webroot is not None:
                (self._webroot / PATH.strip("/") / token).unlink(missing_ok=True)

    async def answer(self, path: str) -> bytes | None:
        """Return the answer to a request for a path, or None where there is none."""
        token = path.removeprefix(PATH)
        if not path.startswith(PATH) or _TOKEN.fullmatch(token) is None:
            return None
        return await read_content(self._documents, _name(token))


class ChallengeListener:
    """Plain HTTP on a port of its own, for these answers and nothing else."""

    def __init__(self, challenges: Challenges, listen: Callable[[], socket.socket]) -> None:
        self._challenges = challenges
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._busy: dict[asyncio.Task[None], None] = {}

    async def open(self) -> None:
        """Listen, if that is not so yet; ``OrderFailed`` where the port is taken."""
        if self._server is None:
            try:
                listener = self._listen()
            except ConfigError as error:
                raise OrderFailed(str(error)) from None
            self._server = await asyncio.start_server(
                self._accept, sock=listener, limit=_HEAD_BYTES
            )

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._busy) >= _AT_ONCE:
            longest = next(iter(self._busy))
            del self._busy[longest]
            longest.cancel()
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._busy[task] = None
        task.add_done_callback(lambda done: self._busy.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
            writer.write(await self._response(head.split(b"\r\n", 1)[0].split(b" ")))
            await asyncio.wait_for(writer.drain(), _HEAD_SECONDS)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # whoever asked for nothing gets nothing
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _response(self, line: list[bytes]) -> bytes:
        method, path = line[0], line[1].decode("latin-1") if len(line) == 3 else ""
        found = await self._challenges.answer(path) if method in (b"GET", b"HEAD") else None
        status = b"404 Not Found" if found is None else b"200 OK"
        body = b"There is no such challenge here.\n" if found is None else found
        headers = b"Content-Type: text/plain\r\nCache-Control: no-store\r\nConnection: close\r\n"
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        return (
            b"HTTP/1.1 "
            + status
            + b"\r\n"
            + headers
            + length
            + (b"" if method == b"HEAD" else body)
        )


def _name(token: str) -> str:
    return f"challenge-{token}"


def _write(webroot: Path, token: str, answer: str) -> None:
    folder = webroot / PATH.strip("/")
    try:
        for made in (folder.parent, folder):
            if not made.is_dir():
                made.mkdir()
                made.chmod(0o755)  # whatever the umask: the web server is another user
        (folder / token).write_text(answer, encoding="ascii")
        (folder / token).chmod(0o644)
    except OSError as error:
        raise OrderFailed(
            f"cannot write to acme.webroot {webroot} ({error.strerror}); "
            "let the registry's user write there"
        ) from None
