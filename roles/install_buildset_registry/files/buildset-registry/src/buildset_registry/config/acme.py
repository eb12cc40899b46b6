# SPDX-License-Identifier: Apache-2.0
"""The settings of the certificate that an authority issues by ACME."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalAccountSettings:
    """The account with the authority that the registry's is bound to."""

    keyid: str
    """The identifier of its key."""

    hmac: str | None = field(default=None, repr=False)
    """The key, in base64url."""

    hmac_file: Path | None = None
    """A file that holds it instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeSettings:
    """A certificate from an authority that speaks ACME, with the challenge HTTP-01."""

    names: tuple[str, ...]
    """The names and addresses that it is for."""

    directory: str = LETS_ENCRYPT
    """The URL of the authority's directory. Whoever orders agrees to its terms of service."""

    email: str | None = None
    """Where the authority may write to."""

    external_account: ExternalAccountSettings | None = None
    """What some authorities want (external account binding)."""

    profile: str | None = None
    """The kind of certificate, of those that the authority offers; by default its own choice."""

    ca: Path | None = None
    """PEM file to verify the authority's server with, instead of the system's certificates."""

    port: int = 80
    """TCP port on which challenges are answered, in plain HTTP; 0 for a process of several that
    leaves that and orders to another one."""

    address: str | None = None
    """Address to listen on for them; by default every address."""

    webroot: Path | None = None
    """The folder of a web server that answers them instead; then the registry does not listen."""

    folder: Path | None = None
    """The folder of account and certificate; by default they are where the images are, which all
    replicas share."""

    retry_seconds: int = 60
    """Seconds before the first new attempt; each further one doubles it, up to six hours."""
