# SPDX-License-Identifier: Apache-2.0
"""aiohttp's errors in plain words; imported by ``transport.py`` only."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import aiohttp

from buildset_registry.upstream.failure import Failure
from buildset_registry.upstream.timeouts import Timeouts

#: What a request or a transfer fails with; the last two come from waiting and from bad host names.
BROKEN = (aiohttp.ClientError, OSError, asyncio.TimeoutError, UnicodeError)

#: OpenSSL's X509_V_ERR_* that have another cure than a CA.
_CERTIFICATE = {
    9: "certificate is not valid yet; compare the clocks",
    10: "certificate has expired; it has to be renewed there",
    62: "certificate is for another host name; correct the url",
    64: "certificate is for another address; correct the url",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


def failure(error: Exception, timeouts: Timeouts) -> Failure:
    """Say why a request failed.

    What has waited long already (names, time-outs) or cannot change (certificates) is not worth
    another try.
    """
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_connected(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Failure(f"the proxy refuses to connect: {error.status} {error.message}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failure(f"no connection within {timeouts.connect:g} s")
    if isinstance(error, asyncio.TimeoutError):
        return Failure(f"no data for {timeouts.read:g} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return Failure("answers with something that is not HTTP")
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return Failure("its URL has no valid host name")
    return Failure("the connection broke", passing=True)


def _not_connected(error: aiohttp.ClientConnectorError) -> Failure:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Failure(
            _CERTIFICATE.get(cause.verify_code, "certificate is not trusted; set its ca")
        )
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _NO_TLS:
            return Failure("does not speak TLS; if that is right, set its url to http://")
        return Failure(f"TLS failed ({cause.reason})")
    if isinstance(cause, socket.gaierror):
        return Failure(f"its host name {error.host} cannot be resolved ({cause.strerror})")
    # A server that hangs up during TLS leaves an error without any word.
    words = str(cause) or "the server ends the connection before it answers"
    reason = os.strerror(cause.errno).lower() if cause.errno else words
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Failure(f"the proxy {error.host}:{error.port}: {reason}", passing=True)
    return Failure(reason, passing=True)
