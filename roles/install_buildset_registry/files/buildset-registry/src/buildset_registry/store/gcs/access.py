# SPDX-License-Identifier: Apache-2.0
"""Tokens and signed URLs of Google, by its own libraries: nothing of them is made here."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import google.auth
from google.auth.credentials import Signing
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.cloud.storage import Client
from google.oauth2.service_account import Credentials

from buildset_registry.config import GcsSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.credentials import checked_url, trusted
from buildset_registry.store.objects.dialect import ObjectFailure

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
#: For how long a signed URL is good.
_SIGNED = timedelta(minutes=20)
_GOOGLE = "https://storage.googleapis.com"
#: For how long nobody is asked for a signature after none was to be had.
_REFUSED_SECONDS = 60.0

_log = logging.getLogger("buildset_registry.store")


class GcsAccess:
    """Whoever has tokens for one bucket."""

    def __init__(self, settings: GcsSettings, credentials: Any, tls: ssl.SSLContext | bool) -> None:
        self.tls = tls
        self.url = checked_url(settings.endpoint or _GOOGLE, "gcs.endpoint")
        self._settings = settings
        self._credentials = credentials
        self._lock = asyncio.Lock()
        self._unsigned = 0.0
        """Until when nobody is asked for a signature, since none was given."""

        self._client = Client(project="-", credentials=credentials)

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return the headers of a request with a token."""
        if not self._credentials.valid:
            async with self._lock:
                if not self._credentials.valid:
                    await self._refresh()
        return {**request.headers, "Authorization": f"Bearer {self._credentials.token}"}

    async def renew(self) -> bool:
        """Have another token after one was refused, which may end before its time."""
        refused = self._credentials.token
        async with self._lock:
            if self._credentials.token == refused:
                await self._refresh()
        return True

    async def signed_url(self, name: str) -> str | None:
        """Return a URL by which anybody can read an object for a while; None without a key.

        A signature of RSA takes milliseconds, and an identity asks Google for one: in a thread. It
        may not be allowed to, or be refused for a while: clients get the object here then.
        """
        if not isinstance(self._credentials, Signing) or time.monotonic() < self._unsigned:
            return None
        blob = self._client.bucket(self._settings.bucket).blob(name)
        sign = partial(blob.generate_signed_url, version="v4", method="GET")
        try:
            url = await asyncio.to_thread(sign, expiration=_SIGNED, api_access_endpoint=self.url)
        except GoogleAuthError as error:
            self._unsigned = time.monotonic() + _REFUSED_SECONDS
            _log.warning(
                "Google signs no URLs: %s; allow iam.serviceAccounts.signBlob, or set "
                "storage.redirect.disable; blobs go through the registry meanwhile",
                _reason(error),
            )
            return None
        return str(url)

    async def _refresh(self) -> None:
        try:
            await asyncio.to_thread(self._credentials.refresh, Request())
        except GoogleAuthError as error:
            raise ObjectFailure(f"Google gives no token: {_reason(error)}") from None


def access_to(settings: GcsSettings) -> GcsAccess:
    """Find the credentials; ``ConfigError`` says why there are none."""
    tls = trusted(settings.ca, "gcs")
    try:
        credentials = _credentials(settings)
    except (GoogleAuthError, ValueError, OSError) as error:
        what = "keyfile" if settings.keyfile else "credentials of the environment"
        raise ConfigError(
            f"storage.gcs: the {what} cannot be used: {_reason(error)}; set keyfile to the JSON "
            "file of a service account's key"
        ) from None
    return GcsAccess(settings, credentials, tls)


def _credentials(settings: GcsSettings) -> Any:
    load: Any = Credentials.from_service_account_file
    if settings.keyfile is not None:
        # A key signs its own tokens: nobody is asked for them.
        loaded = load(str(settings.keyfile), scopes=[_SCOPE])
        return loaded.with_always_use_jwt_access(True)
    return google.auth.default(scopes=[_SCOPE])[0]


def _reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().partition("\n")[0][:200]
