# SPDX-License-Identifier: Apache-2.0
"""Which certificates a server of an upstream is verified with."""

from __future__ import annotations

import ssl
from pathlib import Path

from buildset_registry.upstream.failure import Failure


class Trust:
    """TLS contexts, each made once."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[Path | None, bool], ssl.SSLContext] = {}

    def context(self, ca: Path | None, *, alone: bool) -> ssl.SSLContext:
        """Trust ``ca``, and the system's certificates too unless it stands ``alone``."""
        key = (ca, alone and ca is not None)
        if key not in self._contexts:
            self._contexts[key] = _context(*key)
        return self._contexts[key]


def _context(ca: Path | None, alone: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca if alone else None)
        if ca is not None:
            context.load_verify_locations(ca)
            # As docker's certs.d: the file may hold the server's own certificate, and the CA may
            # be older than the rules that Python 3.13 is strict about.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except ssl.SSLError:
        raise Failure(f"its ca {ca} holds no certificate; name a PEM file") from None
    except OSError as error:
        raise Failure(f"its ca {ca} cannot be read ({error.strerror}); correct it") from None
    return context
