# SPDX-License-Identifier: Apache-2.0
"""What every handler of one endpoint works with."""

from __future__ import annotations

from dataclasses import dataclass

from buildset_registry.auth.access import Policy
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Context:
    """One endpoint: its view of the store, and who may do what there."""

    registry: Registry
    policy: Policy
    authenticator: Authenticator
    push_port: int
    """Where writing is possible, for the message of a read-only endpoint."""

    absolute_urls: bool = False
    """Whether ``Location`` and ``Link`` are whole URLs."""
