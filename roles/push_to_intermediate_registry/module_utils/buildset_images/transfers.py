# SPDX-License-Identifier: Apache-2.0
"""Copies as the program's engine makes them, from what the roles know of registries."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import ImagesError
from .plan import ImageCopy, ImageLocation, KnownRegistry
from .registry_client.oci.digest import Digest
from .registry_client.oci.names import Tag
from .registry_client.protocol.errors import UpstreamError
from .registry_client.transfer.content import ImageDestination
from .registry_client.transfer.copy import CopyOptions, CopyResult, copy_images
from .registry_client.transfer.ends import EndAccess, Ends
from .registry_client.transfer.errors import TransferError
from .registry_client.transfer.http_client import HttpClient
from .registry_client.transfer.image_names import CopyRequest, RegistryImage
from .registry_client.transfer.layout import LayoutFolder
from .registry_client.transfer.remote import RemoteRepository
from .registry_client.transfer.session import Call, RegistryLogin, RegistrySession

#: Images that are asked about at once.
AT_ONCE = 8
#: Seconds in which a host has to answer before an address is tried instead.
_CONNECT_SECONDS = 5
#: Words of the engine's for whoever uses its command, and ours.
_WORDS = (
    ("name its CA by --source-ca or --dest-ca", "give the PEM of its CA as cert"),
    ("push the image first", "it was not pushed, or has been removed since"),
)
#: Answers of an API that it would give again.
_TOLD = (200, *(one for one in range(400, 500) if one not in (408, 429)), 501)
#: Answers that mean that a registry deletes no tags, or not for us.
_KEPT = frozenset({400, 401, 403, 404, 405})
Accesses = tuple[EndAccess, EndAccess]


@dataclass
class CopyOutcome:
    """The end of a copy: what is at the target now, or why it is not."""

    copy: ImageCopy
    #: The digest that the target's tag had before.
    before: str = ""
    digest: str = ""
    media_type: str = ""
    platforms: tuple[str, ...] = ()
    #: The digests of signatures and the like that went along.
    referrers: tuple[str, ...] = ()
    moved: int = 0
    mounted: int = 0
    skipped: int = 0
    error: str = ""

    @property
    def copied(self) -> bool:
        """Whether the target had another image, or none."""
        return not self.error and self.before != self.digest

    @property
    def told(self) -> dict[str, Any]:
        """What a registry tells of the image."""
        more = {"media_type": self.media_type, "platforms": list(self.platforms)}
        return {"digest": self.digest, **more}

    def line(self, dry: bool) -> str:
        """Return what was done, for people."""
        verb = "would be" if dry and self.copied else "is"
        place = f"{self.copy.image} {verb} {self.digest} at {self.copy.target}"
        if not self.copied:
            return f"{place} already"
        return f"{place} ({size(self.moved)} moved, {size(self.mounted + self.skipped)} there)"

    def take(self, result: CopyResult) -> None:
        """Take what the engine tells."""
        self.digest, self.media_type = result.digest, result.media_type
        self.platforms, self.referrers = tuple(result.platforms), tuple(result.referrers)
        self.moved, self.mounted, self.skipped = result.moved, result.mounted, result.skipped
        self.error = in_words(result.error)


@dataclass(frozen=True)
class CarryOptions:
    """The way in which copies are made."""

    #: Whether it is only told what would be copied.
    dry: bool = False
    #: Whether a copy is refused whose tag at the source is not the digest that is expected there.
    by_tag: bool = False
    #: The factor by which pauses between tries are longer.
    patience: float = 1.0


def run(copies: Sequence[ImageCopy], how: CarryOptions) -> list[CopyOutcome]:
    """Make copies side by side; one that fails does not stop the others."""
    outcomes = [CopyOutcome(one) for one in copies]
    for pair in dict.fromkeys((one.source.registry, one.target.registry) for one in copies):
        group = [one for one in outcomes if _registries(one) == pair]
        with _failing(group):
            accesses = access(pair[0]), access(pair[1])
            _look(group, accesses, how)
            _carry([one for one in group if not (one.error or one.digest)], accesses, how)
    return outcomes


def _registries(outcome: CopyOutcome) -> tuple[KnownRegistry, KnownRegistry]:
    return outcome.copy.source.registry, outcome.copy.target.registry


@contextmanager
def _failing(group: Iterable[CopyOutcome]) -> Iterator[None]:
    """Have what concerns a registry as a whole fail each of its copies."""
    try:
        yield
    except TransferError as error:
        for one in group:
            one.error = one.error or in_words(str(error))


def _look(group: Sequence[CopyOutcome], accesses: Accesses, how: CarryOptions) -> None:
    """Ask what the targets are now; what is there already by its digest needs no more."""
    with Ends(*accesses, None, how.patience) as ends, ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [
            (
                one,
                ends.source(image_at(one.copy.source)) if how.by_tag else None,
                ends.destination(image_at(one.copy.target)),
            )
            for one in group
        ]
        list(pool.map(lambda one: _look_at(*one), asked))


def _look_at(
    outcome: CopyOutcome,
    source: RemoteRepository | LayoutFolder | None,
    target: ImageDestination,
) -> None:
    expected = outcome.copy.source.digest
    with _failing([outcome]):
        if source is not None:
            found = source.find_manifest(Tag(outcome.copy.source.tag))
            outcome.error = _moved_tag(outcome.copy.source, found)
            if found is None and (said := source.said_of(outcome.copy.source.tag)):
                outcome.error = f"{outcome.error}; it says: {said}"
        if not outcome.error:
            outcome.before = str(target.find_manifest(Tag(outcome.copy.target.tag)) or "")
            if expected and outcome.before == expected:
                outcome.digest = expected


def _moved_tag(source: ImageLocation, found: Digest | None) -> str:
    """Say what is wrong with a tag that should be what a build has returned."""
    if found is None:
        return f"{source} is not there; {_WORDS[1][1]}"
    if source.digest and str(found) != source.digest:
        return (
            f"{source} is {found} now, and {source.digest} was tested; "
            "nothing is promoted that was not"
        )
    return ""


def _carry(group: Sequence[CopyOutcome], accesses: Accesses, how: CarryOptions) -> None:
    """Have the engine copy; it tells what became of each."""
    if not group:
        return
    requests = [
        CopyRequest(image_at(one.copy.source, by_digest=True), image_at(one.copy.target))
        for one in group
    ]
    options = CopyOptions(
        referrers=True,
        # Before an image has its tag, a registry cannot tell what refers to the token's image.
        tag_first=bool(group[0].copy.target.registry.login.token),
        dry_run=how.dry,
        patience=how.patience,
    )
    report = copy_images(requests, *accesses, options)
    for outcome, result in zip(group, report.images):
        outcome.take(result)


def image_at(location: ImageLocation, *, by_digest: bool = False) -> RegistryImage:
    """Return an image as the engine names it."""
    host, repository = location.registry.host, location.repository
    if ":" in location.tag:  # an artifact may name no tag at all
        return RegistryImage(host, repository, digest=Digest.parse(location.tag))
    digest = Digest.parse(location.digest) if by_digest and location.digest else None
    return RegistryImage(host, repository, Tag(location.tag), digest)


def access(registry: KnownRegistry) -> EndAccess:
    """Return the way to a registry: its login, its CA, and its address if its name leads nowhere.

    Where there is no login, none of a file of the executor's is taken instead.
    """
    login = registry.login
    host, port = registry.host.server
    addresses = {} if not login.address or _answers(host, port) else {host: login.address}
    return EndAccess(
        ca=login.cert or None,
        login=RegistryLogin(login.username, login.password, login.token)
        if login.username or login.token
        else None,
        authfile=os.devnull,
        addresses=addresses,
    )


def _answers(host: str, port: int) -> bool:
    """Tell whether a host can be reached by its name."""
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError):
        return False
    return True


def delete_tags(locations: Iterable[ImageLocation]) -> list[str]:
    """Delete tags that have served their purpose; return what is to be told of each.

    By its name, never by its digest, which would take all tags of the image.
    """
    return [_delete_tag(one, access(one.registry)) for one in locations]


def _delete_tag(location: ImageLocation, way: EndAccess) -> str:
    image = image_at(location)
    client = HttpClient(way.ca, way.addresses)
    registry = RegistrySession(image.url, client, way.login)
    path = f"/v2/{location.repository}/manifests/{location.tag}"
    scope = f"repository:{location.repository}:pull,push,delete"
    try:
        reply = registry.call(Call("DELETE", path, scope), (200, 202, 204, *_KEPT))
        reply.discard()
    except TransferError as error:
        return f"{location} stays: {in_words(str(error))}"
    finally:
        client.close()
    if reply.status in _KEPT:
        return f"{location} stays: the registry answers {reply.status} to its deletion"
    return f"{location} is deleted"


def fetch(url: str, most: int, patience: float) -> tuple[int, bytes]:
    """Ask an API, again where it is down for a moment; return the status, and what is found."""
    client = HttpClient()
    try:
        session = RegistrySession(url, client, sleep=lambda seconds: time.sleep(seconds * patience))
        call = Call("GET", url, "", {"Accept": "application/json"})
        reply, raw = session.read(call, _TOLD, most)
        return reply.status, raw
    except (TransferError, UpstreamError, ValueError) as error:
        raise ImagesError(f"Zuul's API cannot be asked: {in_words(str(error))}") from error
    finally:
        client.close()


def in_words(error: str) -> str:
    """Return a line of the engine's as users of the roles need it."""
    for theirs, ours in _WORDS:
        error = error.replace(theirs, ours)
    return error


def size(count: int) -> str:
    """Write a number of bytes for people."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} B"
