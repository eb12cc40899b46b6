# SPDX-License-Identifier: Apache-2.0
"""The Authorization header: Basic (RFC 7617) and Bearer (RFC 6750)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass, field

from buildset_registry.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Basic:
    """A user name and a password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token."""

    token: str = field(repr=False)


def parse_authorization(header: str | None) -> Basic | Bearer | None:
    """Return what a header holds; ``Unauthorized`` for one that is malformed."""
    if not header:
        return None
    scheme, _separator, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return Bearer(value.strip())
    if scheme.lower() == "basic":
        return _parse_basic(value.strip())
    raise Unauthorized("the Authorization header is neither Basic nor Bearer")


def _parse_basic(value: str) -> Basic | None:
    """Decode ``user:password``; docker sends an empty pair where it has no credentials."""
    try:
        user, separator, password = b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized("the Basic credentials are malformed") from None
    if not separator:
        raise Unauthorized("the Basic credentials are malformed")
    return Basic(user, password) if user or password else None
