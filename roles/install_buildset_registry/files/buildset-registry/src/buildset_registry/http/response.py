# SPDX-License-Identifier: Apache-2.0
"""Responses as values, and the function that sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from buildset_registry.errors import RegistryError
from buildset_registry.http.asgi import ClientLeft, Receive, Send

#: Headers that were sent a short while ago: most answers have the same.
_REMEMBERED = 1024
#: Characters past which a value is not worth remembering: a client has a say in some, by its Host.
_LONG = 200
#: Bytes past which a body that is at hand is sent piece by piece: the server would copy it, and
#: hold that for as long as its client takes to read it.
_LARGE = 256 * 1024
#: Bytes of such a piece.
_PIECE = 64 * 1024
#: By this, older clients know a registry.
_API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")


@dataclass(frozen=True)  # with slots it could not be referred to weakly
class Bytes:
    """A body that is at hand."""

    content: bytes = b""

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(frozen=True, slots=True)
class File:
    """A whole file of ``size`` bytes, which the server sends by itself."""

    path: Path
    size: int


@dataclass(slots=True)
class Stream:
    """A body that comes in pieces, ``size`` bytes in all."""

    size: int
    chunks: AsyncGenerator[bytes]
    first: bytes | None = None
    """The piece that was waited for, before those that follow."""

    arriving: bool = False
    """Whether the pieces come from upstream, not from the store."""


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """The change that a request made to the registry, as far as its answer does not tell it."""

    action: str
    """``push`` or ``mount``, as notifications call it."""

    media_type: str
    size: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers and body; Content-Length follows from the body where no header gives it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Bytes | File | Stream = Bytes()
    outcome: PushOutcome | None = None


#: Large bodies that are being sent, by their content.
_sending: WeakValueDictionary[bytes, Bytes] = WeakValueDictionary()


async def begun(response: Response) -> Response:
    """Wait for the first piece of a body that comes in pieces.

    What fails before it is refused like anything else, with a status and a reason; afterwards, an
    answer can only break off. Of a large body that is at hand, all who are sent it share one copy.
    """
    body = response.body
    if isinstance(body, Bytes) and body.size > _LARGE:
        return replace(response, body=_sending.setdefault(body.content, body))
    if not isinstance(body, Stream) or not body.size:
        return response
    body.first = await anext(body.chunks, b"")
    return response


def json_response(
    tree: object, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = ""
) -> Response:
    """Return a JSON body."""
    content = json.dumps(tree, separators=(",", ":")).encode()
    return Response(
        status,
        {"Content-Type": media_type or "application/json", **(headers or {})},
        Bytes(content),
    )


def error_response(error: RegistryError) -> Response:
    """Return the error body of the distribution specification, section "Error Codes".

    Beside it is that of OAuth2 where there is one (RFC 6749, section 5.2).
    """
    entry: dict[str, object] = {"code": error.code, "message": error.message}
    if error.detail is not None:
        entry["detail"] = error.detail
    tree: dict[str, object] = {"errors": [entry]}
    if error.grant_error:
        tree |= {"error": error.grant_error, "error_description": error.message}
    return json_response(tree, error.status, error.headers)


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode("latin-1"), value.encode("latin-1")


_remembered = lru_cache(_REMEMBERED)(_encoded)


async def send_response(response: Response, receive: Receive, send: Send, *, head: bool) -> int:
    """Send a response, to HEAD without its body; return the number of bytes of the body."""
    body = response.body
    headers = [_API_VERSION]
    for name, value in response.headers.items():
        encode = _remembered if len(value) <= _LONG else _encoded
        headers.append(encode(name, value))
    if response.status not in (204, 304) and "Content-Length" not in response.headers:
        headers.append((b"content-length", str(body.size).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, Bytes) and body.size > _LARGE and not head:
        body = Stream(body.size, _cut(body.content))
    if head or isinstance(body, Bytes):
        content = b"" if head or not isinstance(body, Bytes) else body.content
        await send({"type": "http.response.body", "body": content})
        return len(content)
    if isinstance(body, File):
        await send({"type": "http.response.pathsend", "path": str(body.path)})
        return body.size
    return await _send_pieces(body, receive, send)


async def _cut(content: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]


async def _send_pieces(body: Stream, receive: Receive, send: Send) -> int:
    """Send piece by piece; each waits for the client, so that memory stays flat.

    Granian takes pieces for a client that has left at once and without a word: so the loop gets
    its turn after each piece, and we listen for the client's end.
    """
    sent = 0
    left = asyncio.ensure_future(_until_client_leaves(receive))
    try:
        async with aclosing(body.chunks):
            piece = await anext(body.chunks, None) if body.first is None else body.first
            while piece is not None:
                await asyncio.sleep(0)
                if left.done():
                    raise ClientLeft
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent += len(piece)
                piece = await anext(body.chunks, None)
    finally:
        left.cancel()
    await send({"type": "http.response.body", "body": b""})
    return sent


async def _until_client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
