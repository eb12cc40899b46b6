# SPDX-License-Identifier: Apache-2.0
"""The listener for operators: ``/metrics``, ``/healthz``, ``/readyz``; no images, no logins."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildset_registry import __version__
from buildset_registry.background import told
from buildset_registry.gc import CollectionHistory
from buildset_registry.http.asgi import Receive, Scope, Send
from buildset_registry.http.context import UploadLimit
from buildset_registry.http.health import liveness, readiness
from buildset_registry.http.response import Bytes, Response, json_response, send_response
from buildset_registry.metrics.counters import RequestCounters
from buildset_registry.metrics.prometheus import (
    MEDIA_TYPE,
    Metric,
    counter,
    gauge,
    render,
    request_metrics,
)
from buildset_registry.metrics.workers import Siblings
from buildset_registry.notifications.webhook import Webhook
from buildset_registry.store.base import StorageSpace
from buildset_registry.upstream.counters import UpstreamCounters

if TYPE_CHECKING:
    from buildset_registry.acme.renewal import OrderCounters

_log = logging.getLogger("buildset_registry.metrics")

#: Seconds that the size of the store holds; adding it up takes long.
_SIZE_HOLDS = 300.0
#: Seconds that a scrape waits for it; afterwards it is left out until it is known.
_SIZE_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class Sources:
    """The objects whose numbers are shown."""

    counters: list[RequestCounters]
    uploads: UploadLimit
    upstream: UpstreamCounters
    storage: StorageSpace
    collections: CollectionHistory
    webhooks: Sequence[Webhook] = ()
    certificate_times: Callable[[], tuple[float, float] | None] | None = None
    """Returns since when and until when the server's certificate is valid, since the epoch."""

    orders: OrderCounters | None = None
    """The orders of certificates; None where none are made."""


class MetricsListener:
    """The application of the listener."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._clock = clock
        self._siblings: Siblings | None = None
        self._started = time.time()
        self._ready = False
        self._certificate: tuple[float, float] | None = None
        self._size: int | None = None
        self._size_until = 0.0
        self._measuring: asyncio.Future[int] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = scope["method"] == "HEAD"
        await send_response(await self._respond(scope["path"]), receive, send, head=head)

    async def _respond(self, path: str) -> Response:
        if path == "/metrics":
            asked = self._siblings.metrics() if self._siblings else self._own()
            text = render(await asked)
            return Response(200, {"Content-Type": MEDIA_TYPE}, Bytes(text.encode()))
        if path == "/healthz":
            return liveness()
        if path == "/readyz":
            return await readiness(self._sources.storage)
        return json_response({"paths": ["/metrics", "/healthz", "/readyz"]}, 404)

    async def share(self, siblings: Siblings) -> None:
        """Tell the metrics of all workers from now on, and the others those of this one."""
        self._siblings = siblings
        await siblings.listen(self._own)

    async def _own(self) -> list[Metric]:
        """Return the metrics of this process; one process alone tells those of the store."""
        if self._sources.certificate_times is not None:
            self._certificate = await asyncio.to_thread(self._sources.certificate_times)
        if self._siblings is not None and not self._siblings.first:
            return list(self._metrics())
        await self._look()
        await self._measure()
        return [*self._metrics(), *self._storage_metrics()]

    async def _measure(self) -> None:
        """Learn the size of the store, now and then."""
        if self._measuring is None and self._clock() >= self._size_until:
            self._measuring = asyncio.ensure_future(self._sources.storage.used())
            self._measuring.add_done_callback(self._measured)
        if self._measuring is not None:
            await asyncio.wait([self._measuring], timeout=_SIZE_WAIT)

    def _measured(self, done: asyncio.Future[int]) -> None:
        self._measuring = None
        self._size_until = self._clock() + _SIZE_HOLDS
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._size = done.result()
        else:
            _log.error("the size of the storage cannot be measured: %s", told(error))

    async def _look(self) -> None:
        """Learn whether the storage can be used; one that does not answer cannot."""
        try:
            problem = await asyncio.wait_for(self._sources.storage.problem(), _SIZE_WAIT)
            self._ready = problem is None
        except (OSError, asyncio.TimeoutError):
            self._ready = False

    def _metrics(self) -> Iterator[Metric]:
        yield gauge("info", "The version.", 1, {"version": __version__})
        yield from request_metrics(self._sources.counters)
        running = self._sources.uploads.running
        yield gauge("uploads_running", "Requests that are sending a blob.", running)
        yield from _upstream_metrics(self._sources.upstream)
        yield from _collection_metrics(self._sources.collections)
        if self._certificate is not None:
            begins, ends = self._certificate
            text = "When the certificate {}, in seconds since 1970."
            yield gauge("certificate_start_seconds", text.format("begins"), begins)
            yield gauge("certificate_end_seconds", text.format("ends"), ends)
        yield from _order_metrics(self._sources.orders)
        yield from _webhook_metrics(self._sources.webhooks)
        yield from _process_metrics(self._started)

    def _storage_metrics(self) -> Iterator[Metric]:
        yield gauge("storage_ready", "Whether the storage can be written.", int(self._ready))
        if self._size is not None:
            yield gauge("storage_used_bytes", "Bytes of all blobs, counted at times.", self._size)
        room = self._sources.storage.free()
        if room is not None:
            yield gauge("storage_free_bytes", "Bytes that are free on the disk.", room[0])
            yield gauge("storage_size_bytes", "Bytes of the disk.", room[1])


def _order_metrics(orders: OrderCounters | None) -> Iterator[Metric]:
    if orders is None:
        return
    results = [({"result": "issued"}, orders.issued), ({"result": "failed"}, orders.failed)]
    yield counter("acme_orders_total", "Orders of certificates by this process.", results)
    text = "Orders that failed since the last one of a replica that did not."
    yield gauge("acme_failures", text, orders.in_a_row)


def _upstream_metrics(counters: UpstreamCounters) -> Iterator[Metric]:
    requests = [
        ({"upstream": upstream, "method": method, "status": status}, number)
        for (upstream, method, status), number in sorted(counters.requests.items())
    ]
    yield counter("upstream_requests_total", "Requests to other registries.", requests)
    for name, text, values in (
        ("cache_hits_total", "Content of upstreams that was served from the store.", counters.hits),
        ("cache_misses_total", "Content that was fetched from upstreams.", counters.misses),
    ):
        kinds = sorted({*values, "blob", "manifest"})
        yield counter(name, text, [({"kind": kind}, values[kind]) for kind in kinds])
    stale = "Answers from the store because upstream could not be asked."
    yield counter("cache_stale_total", stale, [({}, counters.stale)])
    received = "Bytes of blobs from upstreams."
    yield counter("upstream_received_bytes_total", received, [({}, counters.received)])
    yield gauge("downloads_running", "Blobs that are on their way.", counters.downloads)
    for name, text, field in (
        ("upstream_ratelimit_limit", "Pulls that an upstream allows in its window.", "limit"),
        ("upstream_ratelimit_remaining", "Pulls that were left when it told.", "remaining"),
    ):
        limits = [
            ({"upstream": upstream}, getattr(limit, field))
            for upstream, limit in sorted(counters.limits.items())
        ]
        yield Metric(name, "gauge", text, limits)


def _collection_metrics(history: CollectionHistory) -> Iterator[Metric]:
    results = [({"result": word}, getattr(history, word)) for word in ("done", "damaged", "failed")]
    yield counter("collections_total", "Collections of garbage by what they came to.", results)
    freed = "Bytes that collections removed."
    yield counter("collection_freed_bytes_total", freed, [({}, history.freed_bytes)])
    problems = "Damaged manifests that the last collection saw; it removes no blobs then."
    yield gauge("collection_problems", problems, history.broken)
    if history.ended is not None:
        text = "When a collection came to its end last, in seconds since 1970."
        yield gauge("collection_end_seconds", text, history.ended)


def _webhook_metrics(webhooks: Sequence[Webhook]) -> Iterator[Metric]:
    for name, kind, text, field in (
        ("notifications_sent_total", "counter", "Events that receivers took.", "sent"),
        ("notifications_failed_total", "counter", "Attempts that failed.", "failed"),
        ("notifications_lost_total", "counter", "Events that no receiver took.", "lost"),
        ("notifications_waiting", "gauge", "Events that wait.", "waiting"),
    ):
        rows = [({"receiver": one.receiver.name}, getattr(one, field)) for one in webhooks]
        yield Metric(name, kind, text, rows)


def _process_metrics(started: float) -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path for each is not wanted
    yield counter("process_cpu_seconds_total", "Processor time.", [({}, seconds)])
    yield gauge("process_resident_bytes", "Memory.", pages * resource.getpagesize())
    yield gauge("process_open_files", "Open files and connections.", files)
    yield gauge("process_start_seconds", "When it started, in seconds since 1970.", started)
