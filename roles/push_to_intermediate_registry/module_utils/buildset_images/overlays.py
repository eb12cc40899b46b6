# SPDX-License-Identifier: Apache-2.0
"""A map of other builds' images, and tokens for these alone: what a registry is handed of them.

That a registry issues no tokens for single images is no error: the images are copied then.
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
from .registry_client.transfer.ends import Ends
from .registry_client.transfer.errors import TransferError
from .tokens import TokenSource, groups, scope, token_source

VERSION = 1
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
    with token_source(there) as source:
        return [_part(source, part, there, seconds) for part in groups(known)]


def _part(
    source: TokenSource, known: Sequence[_Known], there: KnownRegistry, seconds: int
) -> Handed:
    scopes = [scope(place, digest, "pull") for _one, place, digest in known]
    token, lives = source.token(scopes, seconds)
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
