# SPDX-License-Identifier: Apache-2.0
"""The rights to read of whoever asks, as a value that goes down with the request."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from buildset_registry.auth.access import Identity, Policy
from buildset_registry.oci.names import RepositoryName


class ReadRights(Protocol):
    """The repositories that whoever asks may read."""

    @property
    def everything(self) -> bool:
        """Tell whether that is every repository."""

    def allow(self, name: RepositoryName) -> bool:
        """Tell whether a certain repository is one of them."""

    def as_open(self, source: RepositoryName | None, target: RepositoryName) -> bool:
        """Tell whether whoever may read ``target`` may read ``source``, too; None is all there are.

        This is about everybody, not about who asks.
        """


class _NoRights:
    everything = False

    def allow(self, name: RepositoryName) -> bool:
        return False

    def as_open(self, source: RepositoryName | None, target: RepositoryName) -> bool:
        return False


#: The rights of somebody who may read nothing but the repository that is asked for.
NOTHING_ELSE: ReadRights = _NoRights()


class Rights(NamedTuple):
    """The repositories that a client may read."""

    policy: Policy
    identity: Identity

    @property
    def everything(self) -> bool:
        """Tell whether that is every repository."""
        return self.policy.may_mount(self.identity, None)

    def allow(self, name: RepositoryName) -> bool:
        """Tell whether a certain repository is one of them."""
        return self.policy.may_mount(self.identity, name)

    def as_open(self, source: RepositoryName | None, target: RepositoryName) -> bool:
        """Tell whether whoever may read ``target`` may read ``source``, too; None is all there are.

        Where rules or another server's tokens tell users apart, only what is public is.
        """
        policy = self.policy
        if policy.may_pull(None, source):
            return True
        return not (policy.may_pull(None, target) or policy.external or policy.rules)
