# SPDX-License-Identifier: Apache-2.0
"""The state of a registry's certificate, as ``status`` tells it: its end, and what needs a look."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from buildset_registry.acme.certificate import IssuedCertificate, shown_time, validity
from buildset_registry.acme.renewal import CERTIFICATE, STATE, RenewalState
from buildset_registry.config import AcmeSettings, Config
from buildset_registry.errors import ConfigError
from buildset_registry.server.acme import documents_of
from buildset_registry.store import Purpose, open_store

#: Seconds before its end at which a certificate of files needs a look.
_SOON = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class CertificateState:
    """A certificate; None for what is not known."""

    ends: str | None = None
    problem: str | None = None
    """What somebody should look at, in a line."""


def certificate_state(config: Config) -> CertificateState | None:
    """Look at the certificate of a registry; None where it speaks plain HTTP."""
    if config.acme is not None:
        try:
            return asyncio.run(_issued(config, config.acme))
        except (ConfigError, OSError) as error:
            return CertificateState(problem=f"its certificate cannot be looked at: {error}")
    if config.tls is None:
        return None
    try:
        ends = validity(config.tls.certificate.read_bytes())[1]
    except (OSError, ValueError):
        return CertificateState(problem=f"{config.tls.certificate} is no certificate; make one")
    soon = ends - time.time() < _SOON
    problem = f"the certificate ends on {shown_time(ends)}; renew it" if soon else None
    return CertificateState(shown_time(ends), problem)


async def _issued(config: Config, acme: AcmeSettings) -> CertificateState:
    """Read what all replicas share."""
    async with contextlib.AsyncExitStack() as stack:
        store: object = None
        if acme.folder is None:
            opened = await open_store(config, Purpose.READ)
            stack.push_async_callback(opened.aclose)
            store = opened
        documents = documents_of(acme, store)
        content = await documents.read(CERTIFICATE)
        state = RenewalState.of_json(await documents.read(STATE))
    found = IssuedCertificate.of_json(content) if content else None
    ends = shown_time(found.times[1]) if found else None
    if state.problem:
        again = shown_time(state.again)
        return CertificateState(ends, f"no certificate is issued: {state.problem}; again {again}")
    if found is None:
        return CertificateState(problem="no certificate was issued yet; see the log")
    ended = found.times[1] < time.time()
    problem = f"the certificate ended on {ends}; see the log" if ended else None
    return CertificateState(ends, problem)
