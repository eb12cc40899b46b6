# SPDX-License-Identifier: Apache-2.0
"""A map of other builds' images, and tokens for these alone: what a registry is handed of them.

The password goes to the intermediate registry and nowhere else. That one issues no tokens for
single images is no error: the images are copied then.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from . import artifacts, plan, transfers
from .artifacts import ImageArtifact
from .endpoints import written
from .errors import ImagesError
from .plan import ImageLocation, KnownRegistry
from .registry_client.oci.names import Tag
from .registry_client.protocol.errors import UpstreamError
from .registry_client.transfer.ends import Ends
from .registry_client.transfer.errors import TransferError
from .registry_client.transfer.http_client import HttpClient

VERSION = 1
#: Images that one token is for: it is sent with each request, and servers bound their headers.
_OF_ONE_TOKEN = 20
_MOST = 1 << 20
Handed = dict[str, Any]


def hand_over(given: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """Return what the registry is handed as text, and what is told; or why there is none."""
    try:
        images, notes = artifacts.read_artifacts(given["artifacts"])
        if not images:
            return {"overlay": "", "reason": "", "lines": []}
        there = plan.intermediate_registry(given["intermediate_registry"])
        located = [(one, plan.left_by(one, there)) for one in images]
        known = _with_digests(located, there, patience)
        handed = _handed(known, there, int(given["seconds"]))
    except (ImagesError, TransferError, UpstreamError) as error:
        return {"overlay": "", "reason": transfers.in_words(str(error)), "lines": []}
    lines = [f"{one.image} is {digest} at {place}, 0 B copied" for one, place, digest in known]
    raw = json.dumps({"version": VERSION, "handed": handed}).encode()
    # In base64, since Ansible would take it for a dictionary, and hide each word of it in messages.
    return {"overlay": b64encode(raw).decode(), "reason": "", "lines": [*notes, *lines]}


_Known = tuple[ImageArtifact, ImageLocation, str]


def _with_digests(
    located: Sequence[tuple[ImageArtifact, ImageLocation]], there: KnownRegistry, patience: float
) -> list[_Known]:
    """Return the digests as well; artifacts of zuul-jobs do not tell them."""
    way = transfers.access(there)
    found = []
    with Ends(way, way, None, patience) as ends:
        for artifact, place in located:
            digest = artifact.digest
            if not digest:
                source = ends.source(transfers.image_at(place))
                digest = str(source.find_manifest(Tag(place.tag)) or "")
            if not digest:
                raise ImagesError(f"{artifact.told}, is not at {place}")
            found.append((artifact, place, digest))
    return found


def _handed(known: Sequence[_Known], there: KnownRegistry, seconds: int) -> list[Handed]:
    way = transfers.access(there)
    client = HttpClient(way.ca, way.addresses)
    try:
        parts = [known[at : at + _OF_ONE_TOKEN] for at in range(0, len(known), _OF_ONE_TOKEN)]
        return [_part(client, part, there, seconds) for part in parts]
    finally:
        client.close()


def _part(
    client: HttpClient, known: Sequence[_Known], there: KnownRegistry, seconds: int
) -> Handed:
    scopes = [f"image:{place.repository}@{digest}:pull" for _one, place, digest in known]
    token, lives = _token(client, there, scopes, seconds)
    return {
        "registry": {"host": written(there.host), "cert": there.login.cert},
        "token": token,
        "expires": int(time.time()) + lives,
        "images": {
            str(one.image): {
                "digest": digest,
                "repository": place.repository,
                "build": one.build,
                "change": one.change,
            }
            for one, place, digest in known
        },
    }


def _token(
    client: HttpClient, there: KnownRegistry, scopes: Sequence[str], seconds: int
) -> tuple[str, int]:
    """Ask for a token for single images; ImagesError where it is not one for exactly these."""
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
    reply = client.send("POST", url, kind, urlencode(form).encode())
    raw = reply.read(_MOST)
    try:
        tree = json.loads(raw) if reply.status == 200 else {}
        granted, token, lives = tree["scope"].split(), tree["token"], int(tree["expires_in"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImagesError(f"{there} issues no tokens for single images ({reply.status})") from error
    if sorted(granted) != sorted(scopes) or not isinstance(token, str):
        raise ImagesError(f"{there} gives no token for all of these images to its user")
    return token, lives
