# SPDX-License-Identifier: Apache-2.0
"""Digests: ``algorithm:hex`` as in the OCI image specification, section "Digests"."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from ..errors import DigestInvalid

#: The registered algorithms and the length of their hexadecimal form.
ALGORITHMS = {"sha256": 64, "sha512": 128}
#: The length of most, for whoever wants to know how long a list of them is, about.
DIGEST_BYTES = 64

#: Digests whose parsing is remembered: those that many clients ask for at once.
_REMEMBERED = 4096

_DIGEST = re.compile(r"(sha256):([a-f0-9]{64})|(sha512):([a-f0-9]{128})")


class Hasher(Protocol):
    """A hash of ``hashlib``; pieces over 2 KB are hashed without the GIL."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash more data."""

    def hexdigest(self) -> str:
        """Return the hash of the data so far."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A content address: an algorithm of ``ALGORITHMS`` and lower-case hexadecimal."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @staticmethod
    @lru_cache(_REMEMBERED)
    def parse(text: str) -> Digest:
        """Parse ``sha256:...`` or ``sha512:...``; ``DigestInvalid`` for anything else."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise DigestInvalid(
                f"not a digest of a supported algorithm (sha256, sha512): {text[:80]!r}"
            )
        algorithm, value = match[1] or match[3], match[2] or match[4]
        return Digest(algorithm, value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of ``content``."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())


def hasher(algorithm: str) -> Hasher:
    """Start a hash of one of ``ALGORITHMS``."""
    return hashlib.new(algorithm)
