# SPDX-License-Identifier: Apache-2.0
"""The certificate by ACME, from the configuration to what the listeners show."""

from __future__ import annotations

import os
import re
import socket
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from buildset_registry.acme.authority import Authority
from buildset_registry.acme.certificate import placeholder
from buildset_registry.acme.challenges import ChallengeListener, Challenges
from buildset_registry.acme.renewal import OrderCounters, Renewal, RenewalRules
from buildset_registry.background import stop, supervised
from buildset_registry.config import AcmeSettings, ExternalAccountSettings
from buildset_registry.errors import ConfigError
from buildset_registry.server.certificates import Credentials, Times
from buildset_registry.server.sockets import every_address, open_listener
from buildset_registry.store.base import Store
from buildset_registry.store.documents import Documents, FolderDocuments

if TYPE_CHECKING:
    from buildset_registry.acme.client import AcmeClient

#: The topic of the documents.
TOPIC = "acme"


class IssuedPair:
    """The certificate that listeners show: the one that was issued, or one of our own before."""

    certificate = "it was issued by ACME"

    def __init__(self, renewal: Renewal) -> None:
        self.renewal = renewal
        self._own = placeholder(renewal.rules.names)

    def read(self) -> Credentials:
        """Return the certificate of now."""
        current = self.renewal.current
        return Credentials(*self._own) if current is None else Credentials(*current.pair)

    def times(self) -> Times | None:
        """Return since when and until when it is valid; None before one was issued."""
        current = self.renewal.current
        return None if current is None else current.times

    @property
    def orders(self) -> OrderCounters:
        """Return the orders of this process."""
        return self.renewal.counters

    def look(self) -> tuple[object, ...]:
        """Return what is another when there is a new one."""
        current = self.renewal.current
        return () if current is None else (current.chain,)


async def keep_certificate(
    settings: AcmeSettings, store: Store | None, taking_seconds: int, stack: AsyncExitStack
) -> IssuedPair:
    """Begin to order and renew; ``stack`` ends it. ``ConfigError`` for a mistake."""
    if find_spec("acme") is None:
        raise ConfigError("acme needs a library; install buildset-registry[acme]")
    authority = _authority(settings)
    documents = documents_of(settings, store)
    challenges = Challenges(documents, settings.webroot)
    listener = ChallengeListener(challenges, partial(_listen, settings, taking_seconds))
    stack.push_async_callback(listener.close)
    renewal = Renewal(
        rules=RenewalRules(settings.names, authority, settings.retry_seconds),
        documents=documents,
        challenges=challenges,
        reachable=_by_web_server if settings.webroot else listener.open,
        client=partial(_client, authority),
    )
    await renewal.load()
    renewal.orders = settings.port > 0
    stack.push_async_callback(stop, supervised("the renewal of the certificate", renewal.run))
    return IssuedPair(renewal)


def documents_of(settings: AcmeSettings, store: Store | None) -> Documents:
    """Return where account and certificate are kept; ``store`` is None where it does not last."""
    if settings.folder is not None:
        return FolderDocuments(settings.folder, secret=True)
    if store is not None:
        return store.documents(TOPIC, secret=True)
    raise ConfigError("acme.folder is missing, and storage keeps nothing; name a folder")


def _authority(settings: AcmeSettings) -> Authority:
    binding = settings.external_account
    hmac = _hmac(binding) if binding else None
    if settings.ca is not None and not os.access(settings.ca, os.R_OK):
        raise ConfigError(f"cannot read acme.ca {settings.ca}; name a PEM file")
    return Authority(
        directory=settings.directory,
        ca=settings.ca,
        email=settings.email,
        profile=settings.profile,
        key_id=binding.keyid if binding else None,
        hmac_key=hmac,
    )


def _client(authority: Authority) -> AcmeClient:
    # Whoever never orders does without it: a fifth of a second, and 20 MiB.
    from buildset_registry.acme.client import AcmeClient

    return AcmeClient(authority)


def _hmac(binding: ExternalAccountSettings) -> str:
    """Return the key of the account with the authority, which may be in a file."""
    file, key = binding.hmac_file, binding.hmac
    if (file is None) == (key is None):
        raise ConfigError("acme.external_account needs one key; set either hmac or hmac_file")
    try:
        found = file.read_text(encoding="ascii").strip() if file else key or ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"cannot read acme.external_account.hmac_file {file}: {reason}") from None
    if re.fullmatch(r"[A-Za-z0-9_-]{16,}=*", found) is None:
        raise ConfigError("the key of acme.external_account is not base64url; copy it as it is")
    return found.rstrip("=")


def _listen(settings: AcmeSettings, taking_seconds: int) -> socket.socket:
    address = settings.address or every_address()
    return open_listener(address, settings.port, "acme", taking_seconds)


async def _by_web_server() -> None:
    """A web server answers: there is nothing to be opened here."""
