# SPDX-License-Identifier: Apache-2.0
"""Tokens of the intermediate registry for single images, which the executor gets by the secret.

The password goes to the intermediate registry and nowhere else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from . import transfers
from .endpoints import written
from .errors import ImagesError
from .plan import ImageLocation, KnownRegistry
from .registry_client.protocol.retry_after import pause_of
from .registry_client.transfer.http_client import HttpClient, Reply
from .registry_client.transfer.session import BUSY

#: Images that one token is for: it is sent with each request, and servers bound their headers.
_OF_ONE_TOKEN = 20
_MOST = 1 << 20
#: Seconds in all that a registry which is busy may have us wait, rather than copy.
_LONGEST_WAIT = 30.0
_Item = TypeVar("_Item")


class ImageToken(NamedTuple):
    """A token, and for how many seconds it is good."""

    token: str
    seconds: int


def groups(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Yield as many images at a time as one token is for."""
    for at in range(0, len(items), _OF_ONE_TOKEN):
        yield items[at : at + _OF_ONE_TOKEN]


def scope(place: ImageLocation, digest: str, action: str) -> str:
    """Return the scope for an image: by its digest where that is known, or else by its tag."""
    reference = f"@{digest}" if digest else f":{place.tag}"
    if ":" in place.tag:  # an artifact may name no tag at all
        reference = f"@{digest or place.tag}"
    return f"image:{place.repository}{reference}:{action}"


def answer(send: Callable[[], Reply]) -> tuple[int, bytes]:
    """Send a request, again after the pause that a registry asks for; return status and body."""
    waited = 0.0
    while True:
        reply = send()
        raw = reply.read(_MOST)
        pause = pause_of(reply.headers.get("Retry-After"), time.time()) or 0.0
        waited += pause
        if reply.status not in BUSY or not pause or waited > _LONGEST_WAIT:
            return reply.status, raw
        time.sleep(pause)


class TokenSource:
    """The intermediate registry, asked for tokens."""

    def __init__(self, registry: KnownRegistry, client: HttpClient) -> None:
        self._registry = registry
        self._client = client

    def token(self, scopes: Sequence[str], seconds: int) -> ImageToken:
        """Ask for a token for single images; ImagesError where it is not one for exactly these."""
        there = self._registry
        form = {
            "grant_type": "password",
            "service": "buildset-registry",
            "client_id": "buildset-registry",
            "username": there.login.username,
            "password": there.login.password,
            "scope": " ".join(scopes),
            "expires_in": str(seconds),
        }
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        url = f"https://{written(there.host)}/token"
        body = urlencode(form).encode()
        status, raw = answer(lambda: self._client.send("POST", url, kind, body))
        try:
            tree: Any = json.loads(raw) if status == 200 else {}
            granted, token, lives = tree["scope"].split(), tree["token"], int(tree["expires_in"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"issues no tokens for single images ({status})"
            raise ImagesError(f"{there} {what}") from error
        if sorted(granted) != sorted(scopes) or not isinstance(token, str):
            raise ImagesError(f"{there} gives no token for all of these images to its user")
        return ImageToken(token, lives)


@contextmanager
def token_source(registry: KnownRegistry) -> Iterator[TokenSource]:
    """Ask a registry for tokens, and end its connections afterwards."""
    way = transfers.access(registry)
    client = HttpClient(way.ca, way.addresses)
    try:
        yield TokenSource(registry, client)
    finally:
        client.close()
