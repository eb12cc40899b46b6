# SPDX-License-Identifier: Apache-2.0
"""The things that an upload works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from buildset_registry.store.objects.blobs import ObjectBlobs
from buildset_registry.store.objects.dialect import Dialect
from buildset_registry.store.objects.keys import Keys
from buildset_registry.store.objects.parts import PartBudget
from buildset_registry.store.objects.sessions import STATE
from buildset_registry.store.objects.small import SmallObjects
from buildset_registry.store.objects.staging import Staging


@dataclass(frozen=True, slots=True)
class UploadContext:
    """The things that an upload works with, and the place of its own objects."""

    dialect: Dialect
    keys: Keys
    small: SmallObjects
    blobs: ObjectBlobs
    staging: Staging
    budget: PartBudget
    folder: str
    end: Callable[[], None]
    """Called once, when it has become a blob or is forgotten."""

    @property
    def state(self) -> str:
        """The key of what is known of it."""
        return f"{self.folder}{STATE}"
