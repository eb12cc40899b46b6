# SPDX-License-Identifier: Apache-2.0
"""A map of other builds' images, and tokens for these alone: what a registry is handed of them.

It is text for the program on the registry's own host or, where that is another job's, requests to
the registry. That a registry issues no tokens for single images is no error: the images are copied
then.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from . import artifacts, plan, transfers
from .artifacts import ImageArtifact
from .endpoints import written
from .errors import ImagesError
from .plan import ImageLocation, KnownRegistry
from .registry_client.oci.names import Tag
from .registry_client.protocol.errors import UpstreamError
from .registry_client.protocol.tokens import basic
from .registry_client.transfer.ends import Ends
from .registry_client.transfer.errors import TransferError
from .registry_client.transfer.http_client import HttpClient
from .tokens import TokenSource, answer, groups, scope, token_source
from .transfers import CarryOptions

VERSION = 1
Handed = dict[str, Any]


def hand_over(given: Mapping[str, Any], how: CarryOptions) -> dict[str, Any]:
    """Return what the registry is handed as text, and what is told; or why there is none.

    A registry whose facts are given is handed it here, by requests.
    """
    nothing = {"overlay": "", "handed": False, "reason": "", "lines": []}
    facts, secret = given["buildset_registry"], given["intermediate_registry"]
    try:
        images, notes = artifacts.read_artifacts(given["artifacts"])
        if not images and (facts or not secret):
            return nothing
        there = plan.intermediate_registry(secret)
        located = [(one, plan.left_by(one, there)) for one in images]
        known = _with_digests(located, there, how.patience) if images else []
        if facts:
            _send(known, there, plan.buildset_registry(facts), int(given["seconds"]), how)
            handed = []
        else:
            handed = _handed(known, there, int(given["seconds"]))
    except (ImagesError, TransferError, UpstreamError) as error:
        return nothing | {"reason": transfers.in_words(str(error))}
    lines = [f"{one.image} is {digest} at {place}, 0 B copied" for one, place, digest in known]
    told = nothing | {"lines": [*notes, *lines]}
    if facts:
        return told | {"handed": True}
    raw = json.dumps({"version": VERSION, "registries": [_told(there)], "handed": handed}).encode()
    # In base64, since Ansible would take it for a dictionary, and hide each word of it in messages.
    return told | {"overlay": b64encode(raw).decode()}


def _told(there: KnownRegistry) -> dict[str, str]:
    return {"host": written(there.host), "cert": there.login.cert}


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
    with token_source(there) as source:
        return [_part(source, part, there, seconds) for part in groups(known)]


def _part(
    source: TokenSource, known: Sequence[_Known], there: KnownRegistry, seconds: int
) -> Handed:
    scopes = [scope(place, digest, "pull") for _one, place, digest in known]
    token, lives = source.token(scopes, seconds)
    return {
        "registry": _told(there),
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


def _send(
    known: Sequence[_Known],
    there: KnownRegistry,
    own: KnownRegistry,
    seconds: int,
    how: CarryOptions,
) -> None:
    """Hand the images of each repository over to a registry; ImagesError where it takes none."""
    repositories: dict[str, list[_Known]] = {}
    for one in known:
        repositories.setdefault(one[0].image.stored, []).append(one)
    way = transfers.access(own)
    client = HttpClient(way.ca, way.addresses)
    try:
        for repository, parts in repositories.items():
            tree = {"version": VERSION, "handed": _handed(parts, there, seconds)}
            if not how.dry:
                _put(client, own, repository, tree)
    finally:
        client.close()


def _put(client: HttpClient, own: KnownRegistry, repository: str, tree: object) -> None:
    login = basic(own.login.username, own.login.password)
    kind = {"Content-Type": "application/json", "Authorization": login}
    url = f"https://{written(own.host)}/overlay/{repository}"
    body = json.dumps(tree).encode()
    status, raw = answer(lambda: client.send("PUT", url, kind, body))
    if status == 201:
        return
    try:
        why = str(json.loads(raw)["errors"][0]["message"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        why = "it is not one of this project"
    raise ImagesError(f"{own} takes no images of other builds ({status}): {why}")
