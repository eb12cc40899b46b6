# SPDX-License-Identifier: Apache-2.0
"""Both ends of a copy, made of the names of images and of what gives access to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .credentials import CredentialStore
from .errors import TransferError
from .http_client import HttpClient
from .image_names import ImageName, LayoutImage, RegistryImage
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
