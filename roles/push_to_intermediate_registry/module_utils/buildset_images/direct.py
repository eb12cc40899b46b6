# SPDX-License-Identifier: Apache-2.0
"""Copies between the two registries themselves, past the executor, by tokens for single images.

The executor gets the tokens and keeps the secret. The copy is made on the host of the buildset's
registry, which runs code of changes under test: of what it tells of a push, artifacts are made once
the intermediate registry has been asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from . import artifacts, plan, transfers
from .endpoints import written
from .errors import ImagesError
from .images import wanted_images
from .plan import INTERMEDIATE, ImageCopy, ImageLocation, KnownRegistry
from .registry_client.errors import RegistryError
from .registry_client.oci.descriptor import IMAGES, INDEXES, Descriptor
from .registry_client.oci.digest import Digest
from .registry_client.oci.manifest import Manifest
from .registry_client.oci.names import Tag
from .registry_client.protocol.errors import UpstreamError
from .registry_client.transfer.ends import Ends
from .registry_client.transfer.errors import TransferError
from .registry_client.transfer.http_client import HttpClient
from .registry_client.transfer.layout import LayoutFolder
from .registry_client.transfer.platforms import platforms_of
from .registry_client.transfer.remote import RemoteRepository
from .tokens import groups, scope, token_source
from .transfers import CopyOutcome

#: Seconds in which the intermediate registry has to answer, or the executor copies.
REACH_SECONDS = 20.0
_PLATFORM = re.compile(r"[\w.-]{1,64}(?:/[\w.-]{1,64}){1,3}", re.ASCII)
_MOST_PLATFORMS = 100
#: What is an image or an index: buildkit's caches list layers as well.
_LISTED = IMAGES | INDEXES
#: Parts of one image that are looked for, the levels of indexes in indexes, and indexes that are in
#: memory at once; and the parts of all images that are looked for at once.
_MOST_PARTS, _DEEPEST, _READ_AT_ONCE = 5000, 8, 4
_ASKED_AT_ONCE = 16
_FAILURES = (ImagesError, TransferError, UpstreamError, RegistryError)


def permit_push(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return tokens that push the images of a build, or why there are none."""
    images = wanted_images(given["images"], given["images_variable"])
    if not images:
        return _permitted([], "")
    there = plan.intermediate_registry(given["intermediate_registry"])
    copies = plan.push_copies(images, given["build"], there, there)
    wanted = [(str(one.image), scope(one.target, "", "push")) for one in copies]
    return _permit(wanted, there, int(given["seconds"]))


def permit_pull(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return tokens that pull what other builds have made, or why there are none."""
    images, _notes = artifacts.read_artifacts(given["artifacts"])
    if not images:
        return _permitted([], "")
    there = plan.intermediate_registry(given["intermediate_registry"])
    wanted = [
        (str(one.image), scope(plan.left_by(one, there), one.digest, "pull")) for one in images
    ]
    return _permit(wanted, there, int(given["seconds"]))


def _permit(
    wanted: Sequence[tuple[str, str]], there: KnownRegistry, seconds: int
) -> dict[str, Any]:
    permits = []
    try:
        with token_source(there) as source:
            for part in groups(wanted):
                # Two names may stand for one image there.
                scopes = list(dict.fromkeys(one for _image, one in part))
                token = source.token(scopes, seconds).token
                permits.append({"token": token, "images": [image for image, _one in part]})
    except _FAILURES as error:
        return _permitted([], transfers.in_words(str(error)))
    return _permitted(permits, "")


def _permitted(permits: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    return {"permits": permits, "reason": reason}


def by_permits(
    copies: Iterable[ImageCopy], permits: Iterable[Mapping[str, Any]]
) -> list[ImageCopy]:
    """Have copies use tokens where they would use the secret; ImagesError where one has none."""
    held = {image: str(one["token"]) for one in permits for image in one["images"]}
    found = []
    for copy in copies:
        token = held.get(str(copy.image))
        if not token:
            raise ImagesError(f"{copy.image}: there is no token for it; let the executor copy it")
        source, target = (_held(one, token) for one in (copy.source, copy.target))
        found.append(replace(copy, source=source, target=target))
    _check_reach(found)
    return found


def _held(location: ImageLocation, token: str) -> ImageLocation:
    registry = location.registry
    if registry.kind != INTERMEDIATE:
        return location
    login = replace(registry.login, username="", password="", token=token)
    return replace(location, registry=replace(registry, login=login))


def _check_reach(copies: Iterable[ImageCopy]) -> None:
    """Raise ImagesError where the intermediate registry does not answer soon, or not to a token."""
    known = (place.registry for one in copies for place in (one.source, one.target))
    for registry in dict.fromkeys(one for one in known if one.login.token):
        status = _status(registry)
        if status != 200:
            raise ImagesError(f"{registry} answers {status} to its own token")


def _status(registry: KnownRegistry) -> int:
    way = transfers.access(registry)
    client = HttpClient(way.ca, way.addresses)
    # What waits for an answer then fails.
    ending = threading.Timer(REACH_SECONDS, client.close)
    ending.daemon = True
    ending.start()
    try:
        headers = {"Authorization": f"Bearer {registry.login.token}"}
        reply = client.send("GET", f"https://{written(registry.host)}/v2/", headers)
        reply.discard()
        return reply.status
    except (TransferError, UpstreamError) as error:
        reason = transfers.in_words(str(error))
        raise ImagesError(f"{registry} is not reached from the node: {reason}") from error
    finally:
        ending.cancel()
        client.close()


def confirm(copies: Sequence[ImageCopy], told: Iterable[Any], patience: float) -> list[CopyOutcome]:
    """Look at what was pushed by a host that is not to be believed; return what came of it."""
    known = {str(one.get("name")): one for one in told if isinstance(one, Mapping)}
    outcomes = [CopyOutcome(one) for one in copies]
    way = transfers.access(copies[0].target.registry)
    pools = [ThreadPoolExecutor(most) for most in (transfers.AT_ONCE, _ASKED_AT_ONCE)]
    with Ends(way, way, None, patience) as ends, pools[0] as pool, pools[1] as asking:
        asked = [
            (
                one,
                _Parts(ends.source(transfers.image_at(one.copy.target)), asking),
                known.get(str(one.copy.image)),
            )
            for one in outcomes
        ]
        list(pool.map(lambda one: _confirm(*one), asked))
    return outcomes


def _confirm(outcome: CopyOutcome, parts: _Parts, told: Mapping[str, Any] | None) -> None:
    target = outcome.copy.target
    try:
        manifest = parts.there.manifest(Tag(target.tag))
        if manifest is None or told is None:
            outcome.error = f"{target} is not there"
            return
        outcome.digest, outcome.media_type = str(manifest.digest), manifest.media_type
        if outcome.digest != told.get("digest"):
            outcome.error = f"{target} is {outcome.digest}, and not what was copied"
            return
        wrong = parts.missing(manifest) or parts.missing_referrer(_referrers(told))
    except _FAILURES as error:
        outcome.error = transfers.in_words(str(error))
        return
    if wrong:
        outcome.error = f"{target} {wrong}"
        return
    outcome.before = "" if told.get("copied") else outcome.digest
    listed = platforms_of(manifest, ()) if manifest.manifests else _platforms(told)
    outcome.platforms = tuple(listed)


@dataclass
class _Parts:
    """The parts of an image that a registry has: it takes an index whose parts are not there."""

    there: RemoteRepository | LayoutFolder
    pool: ThreadPoolExecutor
    _seen: set[Digest] = field(default_factory=set)

    def missing(self, manifest: Manifest) -> str:
        """Say what is not there of all that an index lists, however deep; or nothing.

        Images are asked for by HEAD; of an index it is read what it lists.
        """
        level = self._fresh([self._listed(manifest)])
        for _depth in range(_DEEPEST):
            if len(self._seen) > _MOST_PARTS:
                return f"lists more than {_MOST_PARTS} images, directly or by indexes"
            images = [one.digest for one in level if one.media_type not in INDEXES]
            absent = self._absent(images)
            if absent:
                return f"lists {absent}, which is not there"
            indexes = [one.digest for one in level if one.media_type in INDEXES]
            if not indexes:
                return ""
            level = []
            for start in range(0, len(indexes), _READ_AT_ONCE):
                some = indexes[start : start + _READ_AT_ONCE]
                for digest, listed in zip(some, self.pool.map(self._read, some)):
                    if listed is None:
                        return f"lists {digest}, which is not there"
                    level += self._fresh([listed])
        return f"has indexes in indexes, more than {_DEEPEST} deep"

    def missing_referrer(self, digests: Sequence[Digest]) -> str:
        """Say which signature, or the like, is not there; or nothing."""
        absent = self._absent(digests)
        return f"lacks {absent}, which was to go along" if absent else ""

    def _absent(self, digests: Sequence[Digest]) -> Digest | None:
        found = self.pool.map(self.there.find_manifest, digests)
        return next((one for one, there in zip(digests, found) if there is None), None)

    def _read(self, digest: Digest) -> list[Descriptor] | None:
        manifest = self.there.manifest(digest)
        return None if manifest is None else self._listed(manifest)

    def _listed(self, manifest: Manifest) -> list[Descriptor]:
        """Return the images and indexes of an index, and no more than are looked for."""
        listed = [one for one in manifest.manifests if one.media_type in _LISTED]
        return listed[: _MOST_PARTS + 1]

    def _fresh(self, lists: Iterable[list[Descriptor]]) -> list[Descriptor]:
        fresh = {one.digest: one for listed in lists for one in listed}
        found = [one for digest, one in fresh.items() if digest not in self._seen]
        self._seen.update(fresh)
        return found


def _referrers(told: Mapping[str, Any]) -> list[Digest]:
    """Return what a node says went along: it may keep quiet about some, and not invent one."""
    given = told.get("referrers")
    found = []
    for one in given[:_MOST_PARTS] if isinstance(given, list) else []:
        try:
            found.append(Digest.parse(str(one)))
        except RegistryError:
            continue
    return found


def _platforms(told: Mapping[str, Any]) -> list[str]:
    """Return what looks like platforms: a single image's stand in a blob, which is not fetched."""
    given = told.get("platforms")
    listed = given[:_MOST_PLATFORMS] if isinstance(given, list) else []
    return [one for one in listed if isinstance(one, str) and _PLATFORM.fullmatch(one)]
