# SPDX-License-Identifier: Apache-2.0
"""Signatures of Azure, by its own libraries: nothing of them is made here.

Each request has a *shared access signature* of the container in its URL, good for some hours. It
is made from the account's key, or from a key that Azure hands out to an identity for a day: so
there is one way to ask for anything, and clients that are sent to Azure get the same.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import AzureError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.storage.blob import (
    BlobServiceClient,
    UserDelegationKey,
    generate_blob_sas,
    generate_container_sas,
)

from buildset_registry.config import AzureSettings
from buildset_registry.errors import ConfigError
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.credentials import checked_url, secret, trusted
from buildset_registry.store.objects.dialect import ObjectFailure

#: For how long the container's signature is good, and how long before its end there is another.
_GOOD, _EARLY = timedelta(hours=6), timedelta(hours=1)
#: For how long a key for an identity is good.
_DELEGATED = timedelta(hours=24)
#: For how long a URL that a client is sent to is good.
_SIGNED = timedelta(minutes=20)
#: For how long nobody asks for a key where none was to be had, and the one at hand is still good.
_REFUSED_SECONDS = 60.0
_NEVER = datetime(9999, 1, 1, tzinfo=timezone.utc)
_LONG_AGO = datetime(1970, 1, 2, tzinfo=timezone.utc)
#: Read, add, create, write, delete, list.
_ALL = "racwdl"

_log = logging.getLogger("buildset_registry.store")


@dataclass(frozen=True, slots=True)
class _Key:
    """What signatures are made with, and until when."""

    shared: str | None = None
    delegated: UserDelegationKey | None = None
    until: datetime = _NEVER


class AzureAccess:
    """Whoever signs requests to one container."""

    def __init__(
        self,
        settings: AzureSettings,
        key: _Key,
        renew: Callable[[], _Key],
        tls: ssl.SSLContext | bool,
    ) -> None:
        self.tls = tls
        self.url = f"{_service(settings)}/{settings.container}"
        """Of the container, without a slash at its end."""

        self._settings = settings
        self._key = key
        self._renew = renew
        self._lock = asyncio.Lock()
        self._until = _LONG_AGO
        self._again = 0.0
        self._query = ""

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return the headers as they are: the signature is in the URL."""
        return request.headers

    async def renew(self) -> bool:
        """Signatures are renewed before they end."""
        return False

    async def query(self) -> str:
        """Return the signature, as it stands in a URL."""
        now = datetime.now(timezone.utc)
        if now > self._until - _EARLY:
            await self._renewed(now)
            expires = min(now + _GOOD, self._key.until)
            self._query = generate_container_sas(
                self._settings.accountname,
                self._settings.container,
                account_key=self._key.shared,
                user_delegation_key=self._key.delegated,
                permission=_ALL,
                expiry=expires,
            )
            self._until = expires
        return self._query

    async def signed_query(self, name: str) -> str:
        """Return a signature by which anybody can read one blob for a while."""
        await self.query()
        return generate_blob_sas(
            self._settings.accountname,
            self._settings.container,
            name,
            account_key=self._key.shared,
            user_delegation_key=self._key.delegated,
            permission="r",
            expiry=datetime.now(timezone.utc) + _SIGNED,
        )

    async def _renewed(self, now: datetime) -> None:
        """Have a key that is good for as long as a signature, or else for shorter ones."""
        if now + _GOOD < self._key.until:
            return
        async with self._lock:
            if now + _GOOD < self._key.until or time.monotonic() < self._again:
                return
            try:
                self._key = await asyncio.to_thread(self._renew)
            except AzureError as error:
                if self._key.until <= now:
                    raise ObjectFailure(f"Azure gives no key: {_reason(error)}") from None
                self._again = time.monotonic() + _REFUSED_SECONDS
                _log.warning("Azure gives no new key: %s", _reason(error))


def access_to(settings: AzureSettings) -> AzureAccess:
    """Find what signatures are made with; ``ConfigError`` says what is missing.

    This waits for Azure where there is no key of the account.
    """
    shared = secret(settings, "azure", "accountkey")
    tls = trusted(settings.ca, "azure")
    if shared is not None:
        return _tried(AzureAccess(settings, _Key(shared), lambda: _Key(shared), tls), shared)
    try:
        client = BlobServiceClient(_service(settings), credential=_credential(settings))
        key = _delegated(client)
    except (AzureError, ValueError) as error:
        raise ConfigError(
            f"storage.azure: there is no accountkey, and {_reason(error)}; set accountkey, or give "
            "credentials the role Storage Blob Data Contributor"
        ) from None
    return AzureAccess(settings, key, lambda: _delegated(client), tls)


def _tried(access: AzureAccess, key: str) -> AzureAccess:
    """Refuse a key that is none."""
    try:
        generate_container_sas(
            "account", "container", account_key=key, permission="r", expiry="2030"
        )
    except Exception as error:
        raise ConfigError("storage.azure.accountkey is no key of an account; correct it") from error
    return access


def _credential(settings: AzureSettings) -> ClientSecretCredential | DefaultAzureCredential:
    given = settings.credentials
    if given.type == "default_credentials":
        return DefaultAzureCredential(managed_identity_client_id=given.clientid)
    key = secret(given, "azure.credentials", "secret")
    if not (given.tenantid and given.clientid and key):
        raise ConfigError("storage.azure.credentials needs tenantid, clientid and secret; set them")
    return ClientSecretCredential(given.tenantid, given.clientid, key)


def _delegated(client: BlobServiceClient) -> _Key:
    """Ask for a key that an identity may sign with."""
    now = datetime.now(timezone.utc)
    until = now + _DELEGATED
    return _Key(None, client.get_user_delegation_key(now - timedelta(minutes=5), until), until)


def _service(settings: AzureSettings) -> str:
    url = settings.serviceurl or f"https://{settings.accountname}.blob.{settings.realm}"
    return checked_url(url, "azure.serviceurl")


def _reason(error: Exception) -> str:
    """Return the first line of what a library says."""
    return str(error).strip().partition("\n")[0][:200]
