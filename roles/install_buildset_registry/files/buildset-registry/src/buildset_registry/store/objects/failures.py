# SPDX-License-Identifier: Apache-2.0
"""Failures of requests to a service of objects in plain words: what it is, and what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass

import aiohttp

from buildset_registry.errors import ConfigError
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from buildset_registry.protocol.urls import origin, server
from buildset_registry.store.objects.dialect import ObjectFailure

#: The status by which a proxy wants a login (RFC 9110, 15.5.8), and where to look for it.
PROXY_LOGIN = 407
SEE_PROXIES = "see HTTPS_PROXY, HTTP_PROXY and NO_PROXY"


@dataclass(frozen=True, slots=True)
class Patience:
    """Times for which a service is waited for, in seconds, and tries."""

    connect: float = 10.0
    read: float = 60.0
    tries: int = 6
    pause: float = 0.2
    """Seconds before the second try, about; doubled for each further one."""

    longest: float = 8.0


class ProxyRefused(ObjectFailure):
    """A proxy that wants another login: it will want it again."""


def proxy_to(url: str, proxies: ProxyEnvironment) -> str | None:
    """Return the proxy on the way; ``ConfigError`` where the environment names none that is one."""
    try:
        return proxies.find(url)
    except UpstreamError as error:
        raise ConfigError(f"storage: {error.reason}") from None


def check_proxy_answer(answer: aiohttp.ClientResponse, proxy: str | None) -> None:
    """Tell a proxy that wants a login from a service that does."""
    if answer.status == PROXY_LOGIN and proxy is not None:
        raise ProxyRefused(_refused(answer.status, answer.reason))


def is_final(error: Exception) -> bool:
    """Tell whether another try cannot help: names, certificates, logins."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status == PROXY_LOGIN
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    known = (ProxyRefused, aiohttp.InvalidURL)
    return isinstance(cause, ssl.SSLError | socket.gaierror) or isinstance(error, known)


def explained(error: Exception, patience: Patience, url: str) -> ObjectFailure:
    """Return the reason of a request's failure in plain words."""
    if isinstance(error, ObjectFailure):
        return error
    if isinstance(error, aiohttp.ClientConnectorError):
        return ObjectFailure(_not_connected(error, url))
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ObjectFailure(
            f"no connection to the object store at {server(url)} within {patience.connect:g} s"
        )
    if isinstance(error, asyncio.TimeoutError):
        return ObjectFailure(
            f"the object store at {server(url)} sent nothing for {patience.read:g} s"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ObjectFailure(_refused(error.status, error.message))
    plain = "; if it speaks TLS, set its URL to https://" if url.startswith("http:") else ""
    return ObjectFailure(f"the connection to the object store at {server(url)} broke{plain}")


def _not_connected(error: aiohttp.ClientConnectorError, url: str) -> str:
    cause, place = error.os_error, f"{error.host}:{error.port}"
    proxy = error.host != origin(url)[1]
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message
        return f"the certificate of {place} is not trusted ({why}); name its authority by ca"
    if isinstance(cause, ssl.SSLError):
        return f"{place} does not speak TLS ({cause.reason}); set its URL to http://"
    if isinstance(cause, socket.gaierror):
        what = f"the host name {error.host}{' of the proxy' if proxy else ''} cannot be resolved"
        return f"{what} ({cause.strerror}); {SEE_PROXIES if proxy else 'correct it'}"
    reason = os.strerror(cause.errno).lower() if cause.errno else str(cause)
    if proxy:
        return f"no connection to the proxy at {place}: {reason}; {SEE_PROXIES}"
    return f"no connection to the object store at {place}: {reason}"


def _refused(status: int, reason: str | None) -> str:
    return f"the proxy refuses to connect: {status} {reason or ''}".rstrip() + f"; {SEE_PROXIES}"
