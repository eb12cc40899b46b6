# SPDX-License-Identifier: Apache-2.0
"""What every handler of one endpoint works with."""

from __future__ import annotations

from dataclasses import dataclass

from buildset_registry.auth.access import Policy
from buildset_registry.auth.authenticator import Authenticator
from buildset_registry.http.transfers import Transfers
from buildset_registry.registry import Registry
from buildset_registry.store.space import Storage


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What requests may not do."""

    read_only: bool = False
    """Whether nothing may be pushed or deleted for now."""

    body_seconds: float = 0
    """For how long a client may send nothing of a body; 0 is for ever."""


@dataclass(frozen=True, slots=True)
class Context:
    """One endpoint: its view of the store, and who may do what there."""

    registry: Registry
    policy: Policy
    authenticator: Authenticator
    elsewhere: str
    """Where writing is possible, for the message of a read-only endpoint."""

    storage: Storage
    transfers: Transfers
    limits: RequestLimits = RequestLimits()
    absolute_urls: bool = False
    """Whether ``Location`` and ``Link`` are whole URLs."""
