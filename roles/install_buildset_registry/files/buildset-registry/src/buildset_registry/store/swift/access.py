# SPDX-License-Identifier: Apache-2.0
"""Tokens of Keystone and the place of Swift, by keystoneauth1: nothing of them is made here."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keystoneauth1 import exceptions
from keystoneauth1.access.access import AccessInfo
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from requests.exceptions import ProxyError

from buildset_registry.config import SwiftSettings
from buildset_registry.errors import ConfigError
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from buildset_registry.store.objects.connection import ServiceRequest
from buildset_registry.store.objects.credentials import checked_url, secret, trusted
from buildset_registry.store.objects.dialect import ObjectFailure
from buildset_registry.store.objects.failures import PROXY_LOGIN, SEE_PROXIES, proxy_to

#: Seconds before a token ends from which another one is asked for.
_EARLY = 120
_KEYSTONE_SECONDS = 30
_SERVICE = "object-store"
_DOMAIN = "Default"


@dataclass(frozen=True, slots=True)
class _Names:
    """The settings, and for those that are missing what the environment says."""

    settings: SwiftSettings

    def get(self, name: str, *variables: str) -> str | None:
        """Return a setting, or the first of some variables that is set."""
        value: str | None = getattr(self.settings, name)
        return value or next(filter(None, map(os.environ.get, variables)), None)

    def secret(self, name: str, variable: str) -> str | None:
        """Return a secret, or a variable."""
        return secret(self.settings, "swift", name) or os.environ.get(variable)


class SwiftAccess:
    """Whoever has tokens for one account."""

    def __init__(
        self, plugin: v3.Auth, session: Session, info: AccessInfo, url: str, seed: str
    ) -> None:
        self.url = url
        """Of the account, without a slash at its end."""

        self.seed = seed
        """What all replicas know, and nobody else."""

        self.tls: ssl.SSLContext | bool = True
        self._plugin = plugin
        self._session = session
        self._info = info
        self._lock = asyncio.Lock()

    async def sign(self, request: ServiceRequest) -> Mapping[str, str]:
        """Return the headers of a request with a token that is good for some time."""
        if self._info.will_expire_soon(_EARLY):
            async with self._lock:
                if self._info.will_expire_soon(_EARLY):
                    await self._ask()
        return {**request.headers, "X-Auth-Token": str(self._info.auth_token)}

    async def renew(self) -> bool:
        """Have another token after one was refused, which may end before its time."""
        refused = self._info
        async with self._lock:
            if self._info is refused:
                await self._ask()
        return True

    async def _ask(self) -> None:
        try:
            self._info = await asyncio.to_thread(_token, self._plugin, self._session)
        except exceptions.ClientException as error:
            raise ObjectFailure(f"Keystone gives no token: {_reason(error)}") from None


def access_to(settings: SwiftSettings) -> SwiftAccess:
    """Get a first token and find the account; ``ConfigError`` says why there is none.

    This waits for Keystone.
    """
    names = _Names(settings)
    url = names.get("authurl", "OS_AUTH_URL")
    if url is None:
        raise ConfigError("storage.swift.authurl is missing; set it to the URL of Keystone")
    url = checked_url(url, "swift.authurl")
    proxy_to(url, ProxyEnvironment(os.environ))
    plugin, seed = _plugin(names, url)
    ca = settings.ca or (Path(os.environ["OS_CACERT"]) if os.environ.get("OS_CACERT") else None)
    tls = trusted(ca, "swift", verify=not settings.insecureskipverify)
    verify = str(ca) if ca and not settings.insecureskipverify else tls is not False
    session = Session(verify=verify, timeout=_KEYSTONE_SECONDS, app_name="buildset-registry")
    try:
        info = _token(plugin, session)
    except exceptions.ClientException as error:
        raise ConfigError(f"storage.swift: {_reason(error)}; {_cure(error, url)}") from None
    region = names.get("region", "OS_REGION_NAME")
    try:
        account = info.service_catalog.url_for(_SERVICE, settings.endpointtype, region)
    except exceptions.CatalogException:
        regions = sorted({str(name) for name in _regions(info)})
        raise ConfigError(
            f"storage.swift: Keystone at {url} names no {settings.endpointtype} {_SERVICE} in "
            f"region {region}; correct region or endpointtype (there is: {', '.join(regions)})"
        ) from None
    access = SwiftAccess(plugin, session, info, str(account).rstrip("/"), seed)
    access.tls = tls
    return access


def _plugin(names: _Names, url: str) -> tuple[v3.Auth, str]:
    """Return what asks for tokens, and the secret by which it does."""
    application = names.get("applicationcredentialid", "OS_APPLICATION_CREDENTIAL_ID")
    if application is not None and not names.settings.username:
        key = names.secret("applicationcredentialsecret", "OS_APPLICATION_CREDENTIAL_SECRET")
        if key is None:
            raise ConfigError("storage.swift.applicationcredentialsecret is missing; set it")
        return v3.ApplicationCredential(url, key, application_credential_id=application), key
    user, password = names.get("username", "OS_USERNAME"), names.secret("password", "OS_PASSWORD")
    if user is None or password is None:
        raise ConfigError(
            "storage.swift needs username and password, or applicationcredentialid and "
            "applicationcredentialsecret; set them"
        )
    domain = names.get("domain", "OS_USER_DOMAIN_NAME")
    domain_id = names.get("domainid", "OS_USER_DOMAIN_ID")
    domain = None if domain_id else domain or _DOMAIN
    scope = _scope(names, domain, domain_id)
    made = v3.Password(
        url,
        password,
        username=user,
        user_domain_id=domain_id,
        user_domain_name=domain,
        trust_id=scope.trust,
        project_id=scope.number,
        project_name=scope.name,
        project_domain_id=scope.domain_id,
        project_domain_name=scope.domain,
    )
    return made, password


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a token is to be good for: a project, or what a trust says."""

    trust: str | None = None
    number: str | None = None
    name: str | None = None
    domain: str | None = None
    domain_id: str | None = None


def _scope(names: _Names, domain: str | None, domain_id: str | None) -> _Scope:
    if names.settings.trustid:
        return _Scope(trust=names.settings.trustid)
    number = names.get("tenantid", "OS_PROJECT_ID", "OS_TENANT_ID")
    name = names.get("tenant", "OS_PROJECT_NAME", "OS_TENANT_NAME")
    if number is not None:
        return _Scope(number=number)
    if name is None:
        raise ConfigError("storage.swift needs tenant, tenantid or trustid; set one")
    own = names.get("tenantdomain", "OS_PROJECT_DOMAIN_NAME")
    own_id = names.get("tenantdomainid", "OS_PROJECT_DOMAIN_ID")
    if own is None and own_id is None:
        own, own_id = domain, domain_id
    return _Scope(name=name, domain=None if own_id else own, domain_id=own_id)


def _token(plugin: v3.Auth, session: Session) -> AccessInfo:
    """Ask for a token, whatever was known before."""
    return plugin.get_auth_ref(session)


def _regions(info: AccessInfo) -> list[str | None]:
    found = info.service_catalog.get_endpoints_data(_SERVICE)
    return [one.region_name for each in found.values() for one in each]


def _reason(error: exceptions.ClientException) -> str:
    """Return what is wrong, in a line; what keystoneauth1 says of it is a quotation in others."""
    roots = list(_roots(error))
    for root in roots:
        if isinstance(root, ProxyError):
            return f"the proxy on the way to Keystone does not lead there ({_innermost(roots)})"
    for root in roots:
        if isinstance(root, ssl.SSLCertVerificationError):
            return f"the certificate of Keystone is not trusted ({root.verify_message})"
        if isinstance(root, ssl.SSLError):
            return f"Keystone does not speak TLS ({root.reason})"
        if isinstance(root, socket.gaierror):
            return "the host name of Keystone cannot be resolved"
        if isinstance(root, OSError) and root.errno:
            return f"no connection to Keystone: {os.strerror(root.errno).lower()}"
    return " ".join(str(error).split()).partition(" (Request-ID")[0][:200]


def _innermost(roots: Sequence[BaseException]) -> str:
    """Return the words of the failure that all others quote."""
    texts = [one.strerror or str(one) for one in roots if isinstance(one, OSError)]
    return " ".join((texts[-1] if texts else str(roots[-1])).split())[:100]


def _roots(error: BaseException) -> Iterator[BaseException]:
    """Yield a failure and all that it quotes: libraries hold these in one place or another."""
    level: list[object] = [error]
    seen: set[int] = set()
    while level:
        found = [one for one in level if isinstance(one, BaseException) and id(one) not in seen]
        yield from found
        seen |= {id(one) for one in found}
        level = [
            inner
            for one in found
            for inner in (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        ]


def _cure(error: exceptions.ClientException, url: str) -> str:
    roots = list(_roots(error))
    if isinstance(error, exceptions.Unauthorized):
        return "correct username and password, tenant and domain, or the application credential"
    refused = getattr(error, "http_status", 0) == PROXY_LOGIN
    if refused or any(isinstance(one, ProxyError) for one in roots):
        return SEE_PROXIES
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in roots):
        return "set ca to the certificate authority of Keystone"
    return f"correct authurl, which is {url}"
