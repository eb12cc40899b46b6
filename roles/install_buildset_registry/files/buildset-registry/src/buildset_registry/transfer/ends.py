# SPDX-License-Identifier: Apache-2.0
"""Both ends of a copy, made of the names of images and of what gives access to them; and what is
at one of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import RegistryError
from ..oci.digest import Digest
from ..oci.names import Tag
from .credentials import CredentialStore
from .errors import TransferError
from .http_client import HttpClient
from .image_names import ImageName, LayoutImage, RegistryImage, parse_image
from .layout import LayoutFolder
from .remote import RemoteRepository
from .session import RegistryLogin, RegistrySession
from .uploads import UploadJournal

#: Threads that begin uploads while the source is read; each waits for one answer.
_ASIDE = 24


@dataclass(frozen=True)
class EndAccess:
    """The way to the registries of one end."""

    ca: str | None = None
    """Certificates in PEM, trusted beside the system's authorities."""

    login: RegistryLogin | None = None
    """What logs in at whatever registry; None looks into the files of docker and podman."""

    authfile: str | None = None
    """The file to look into instead of those."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    """Addresses of hosts that have none by name here; the certificate is still the name's."""


class Ends:
    """The repositories and folders of a run; each is made once."""

    def __init__(
        self,
        source: EndAccess,
        destination: EndAccess,
        journal: Path | None,
        patience: float = 1.0,
    ) -> None:
        self._access = {False: source, True: destination}
        self._clients = {
            side: HttpClient(access.ca, access.addresses) for side, access in self._access.items()
        }
        self._stores = {
            side: CredentialStore(access.authfile) for side, access in self._access.items()
        }
        self._journal = UploadJournal(journal) if journal is not None else None
        self._repositories: dict[tuple[bool, str, str], RemoteRepository] = {}
        self._layouts: dict[str, LayoutFolder] = {}
        self._patience = patience
        self._stopped = threading.Event()
        self._aside = ThreadPoolExecutor(_ASIDE, "copy-aside")

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections, and whoever waits."""
        self._stopped.set()
        for client in self._clients.values():
            client.close()
        self._aside.shutdown(wait=True, cancel_futures=True)
        for layout in self._layouts.values():
            layout.close()

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run has ended."""
        if self._stopped.wait(seconds * self._patience):
            raise TransferError("the copy was stopped")

    def source(self, image: ImageName) -> RemoteRepository | LayoutFolder:
        """Return where an image comes from."""
        return self._end(image, writes=False)

    def destination(self, image: ImageName) -> RemoteRepository | LayoutFolder:
        """Return where an image goes to."""
        return self._end(image, writes=True)

    def _end(self, image: ImageName, *, writes: bool) -> RemoteRepository | LayoutFolder:
        if isinstance(image, LayoutImage):
            folder = os.path.realpath(image.folder)
            return self._layouts.setdefault(folder, LayoutFolder(image.folder))
        key = (writes, image.url, image.repository)
        if key not in self._repositories:
            self._repositories[key] = RemoteRepository(
                self._session(image, writes=writes),
                image.repository,
                aside=self._aside,
                writes=writes,
                journal=self._journal if writes else None,
            )
        return self._repositories[key]

    def _session(self, image: RegistryImage, *, writes: bool) -> RegistrySession:
        """Return the way to a registry, one for each account there."""
        access = self._access[writes]
        credentials = access.login or self._stores[writes].find(image.host, image.repository)
        for (side, url, _repository), known in self._repositories.items():
            if (side, url) == (writes, image.url) and known.session.credentials == credentials:
                return known.session
        return RegistrySession(image.url, self._clients[writes], credentials, sleep=self.sleep)


def tagged_images(sources: Sequence[str], access: EndAccess) -> tuple[list[str], list[str]]:
    """Return the names of all images of some repositories, and the repositories that have none.

    By the lists of their tags: a registry need not have a catalog, and zuul-registry has none.
    ``TransferError`` where none of them has an image, since a name is wrong then.
    """
    repositories = [_repository(source) for source in sources]
    found: list[str] = []
    empty: list[str] = []
    with Ends(access, EndAccess(), None) as ends:
        for repository in repositories:
            end = ends.source(repository)
            listed = list(end.tags()) if isinstance(end, RemoteRepository) else []
            found += [str(_listed_image(repository, one)) for one in listed]
            empty += [] if listed else [str(repository)]
    if not found:
        raise TransferError(f"{', '.join(empty)[:300]}: no image has a tag there; check the name")
    return found, empty


def _repository(text: str) -> RegistryImage:
    image = parse_image(text)
    if not isinstance(image, RegistryImage) or image.tag or image.digest:
        raise TransferError(f"{image} is one image; with --all-tags name HOST[:PORT]/REPOSITORY")
    return image


def _listed_image(repository: RegistryImage, listed: str) -> RegistryImage:
    """Return the image of a tag; zuul-registry lists among tags what was pushed by its digest."""
    try:
        if ":" in listed:
            return replace(repository, digest=Digest.parse(listed))
        return replace(repository, tag=Tag.parse(listed))
    except RegistryError:
        raise TransferError(f"{repository} lists {listed[:150]!r}, which is no tag") from None
