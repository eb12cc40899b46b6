# SPDX-License-Identifier: Apache-2.0
"""From the section ``ledger`` of a configuration to a ledger, to write to or to read.

It is in a folder of its own or, where none is named, in the object store that images are in: then
all servers of that store have one ledger.
"""

from __future__ import annotations

import asyncio

from buildset_registry.config import LedgerSettings
from buildset_registry.errors import ConfigError
from buildset_registry.ledger.budget import RowBudget
from buildset_registry.ledger.content import LedgerContent
from buildset_registry.ledger.facts import StoreFacts
from buildset_registry.ledger.files import LedgerFiles, read_ledger
from buildset_registry.ledger.ledger import Ledger, LedgerSink
from buildset_registry.ledger.objects import HourlyObjects, read_objects
from buildset_registry.overlay.table import OverlaidTags
from buildset_registry.store.base import Store
from buildset_registry.store.ledger import KeepsLedger, LedgerObjects
from buildset_registry.upstream.counters import UpstreamCounters


def keep_ledger(
    settings: LedgerSettings,
    store: Store,
    upstream: UpstreamCounters,
    overlaid: OverlaidTags | None = None,
) -> Ledger:
    """Return a ledger of a store's images that has begun to write."""
    sink: LedgerSink
    if settings.folder is not None:
        sink = LedgerFiles(settings.folder, settings.size)
    else:
        sink = HourlyObjects(_objects(store), settings.size)
    facts = StoreFacts(store, upstream, overlaid)
    ledger = Ledger(sink, facts, upstream, budget=RowBudget(settings.size))
    ledger.start()
    return ledger


async def kept_rows(settings: LedgerSettings, store: Store | None) -> LedgerContent:
    """Return what a ledger holds; servers may be writing to it."""
    if settings.folder is not None:
        return await asyncio.to_thread(read_ledger, settings.folder)
    return await read_objects(_objects(store))


def _objects(store: Store | None) -> LedgerObjects:
    if isinstance(store, KeepsLedger):
        return store.ledger
    raise ConfigError("ledger.folder is missing; set it: only an object store keeps a ledger")
