# SPDX-License-Identifier: Apache-2.0
"""The collector: runs the passes once, or from time to time while the registry serves."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from buildset_registry.background import stop, supervised, told
from buildset_registry.gc.eviction import mark_cached
from buildset_registry.gc.leases import begin_leases
from buildset_registry.gc.passes import (
    expire_uploads,
    mark_misnamed,
    mark_pushed,
    prune_links,
    sweep_blobs,
)
from buildset_registry.gc.quota import make_room
from buildset_registry.gc.report import CollectionHistory, CollectionReport
from buildset_registry.gc.retention import begin_retention, end_retention
from buildset_registry.gc.state import AtUpstream, Collection, CollectionRules, no_upstream
from buildset_registry.progress import ProgressCallback
from buildset_registry.retention import serve_without
from buildset_registry.store.base import Store

PASSES = (
    expire_uploads,
    begin_retention,
    begin_leases,
    make_room,
    mark_pushed,
    mark_misnamed,
    mark_cached,
    sweep_blobs,
    prune_links,
    end_retention,
)

_log = logging.getLogger("buildset_registry.gc")


async def collect(
    store: Store,
    rules: CollectionRules,
    on_progress: ProgressCallback,
    at_upstream: AtUpstream = no_upstream,
    *,
    dry_run: bool,
) -> CollectionReport:
    """Remove what nobody wants, or tell what that would be."""
    began = time.monotonic()
    collection = Collection(store, rules, CollectionReport(dry_run), on_progress, at_upstream)
    for each_pass in PASSES:
        await each_pass(collection)
    collection.report.seconds = round(time.monotonic() - began, 3)
    return collection.report


class Collector:
    """Collect every ``interval`` seconds (0: never) and when asked; close it before the store."""

    def __init__(
        self,
        store: Store,
        rules: CollectionRules,
        interval: float,
        at_upstream: AtUpstream = no_upstream,
    ) -> None:
        self._store = store
        self._rules = rules
        self._at_upstream = at_upstream
        self._one_at_a_time = asyncio.Lock()
        self._interval = interval
        self.history = CollectionHistory()
        self._task = supervised("the collection", self._periodically) if interval else None

    async def run(self, on_progress: ProgressCallback, *, dry_run: bool) -> CollectionReport:
        """Collect now, after a collection that is under way, here or in another process."""
        async with self._one_at_a_time, self._store.collecting(wait=True):
            return await self._collect(on_progress, dry_run=dry_run)

    async def _collect(self, on_progress: ProgressCallback, *, dry_run: bool) -> CollectionReport:
        if self._rules.retention is None and not dry_run:
            with suppress(OSError):
                await serve_without(self._store)
        try:
            report = await collect(
                self._store, self._rules, on_progress, self._at_upstream, dry_run=dry_run
            )
        except Exception as error:
            self.history.fail(told(error))
            raise
        self.history.add(report, time.time())
        _tell(report)
        return report

    @property
    def interval(self) -> float:
        """Return the seconds between two collections; 0 where there are none by themselves."""
        return self._interval

    async def close(self) -> None:
        """Stop; what is half done is done the next time."""
        if self._task is not None:
            await stop(self._task)

    async def _periodically(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                # What another process does has not to be done again.
                async with self._one_at_a_time, self._store.collecting(wait=False) as mine:
                    if mine:
                        await self._collect(lambda progress: None, dry_run=False)
            except OSError as error:
                _log.error("collection broke off: %s; it will be tried again", error)


def _tell(report: CollectionReport) -> None:
    for problem in report.problems:
        _log.error("%s; no blobs are removed: run buildset-registry verify", problem)
    for note in report.notes:
        _log.warning("retention: %s", note)
    if report.misnamed:
        _log.warning(
            "%d repositories keep all that they hold, since their names are not accepted: "
            "run buildset-registry verify",
            len(report.misnamed),
        )
    tags = report.count("tag")
    if tags:
        _log.info("%s %d tags", "would remove" if report.dry_run else "removed", tags)
    if report.removed or report.blobs:
        _log.info(
            "%s %d uploads, %d manifests, %d cached images, %d blobs of %d bytes in %.1f s",
            "would remove" if report.dry_run else "removed",
            *(report.count(kind) for kind in ("upload", "manifest", "cached")),
            report.blobs,
            report.freed_bytes,
            report.seconds,
        )
