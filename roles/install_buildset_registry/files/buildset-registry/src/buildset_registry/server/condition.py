# SPDX-License-Identifier: Apache-2.0
"""The condition of a running process, as ``status`` asks for it: plain numbers and words.

Where one process has the storage, it is asked by its control socket. Where several share one, each
puts a notice there, again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import time
from dataclasses import asdict
from typing import Any

from buildset_registry import __version__
from buildset_registry.background import stop, supervised
from buildset_registry.gc import Collector
from buildset_registry.store.base import StorageSpace
from buildset_registry.store.replicas import Replicas
from buildset_registry.upstream.counters import UpstreamCounters

#: Seconds between two notices.
NOTICE_SECONDS = 60.0


class ProcessCondition:
    """The storage, the collections and the upstreams' limits, as this process knows them."""

    def __init__(
        self,
        storage: StorageSpace,
        collector: Collector,
        upstream: UpstreamCounters,
        rules: str = "",
    ) -> None:
        """Take what is told of; ``rules`` is another text for other rules of retention."""
        self._storage = storage
        self._collector = collector
        self._upstream = upstream
        self._started = time.time()
        self._rules = hashlib.sha256(rules.encode()).hexdigest()[:16] if rules else None

    async def tell(self) -> dict[str, Any]:
        """Return it as plain values; times are seconds since the epoch."""
        free, size = self._storage.free() or (None, None)
        limits = sorted(self._upstream.limits.items())
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "started": self._started,
            "told": time.time(),
            "storage": {
                "problem": await self._storage.problem(),
                "free_bytes": free,
                "size_bytes": size,
            },
            "collector": {
                "interval": self._collector.interval,
                **asdict(self._collector.history),
            },
            "retention": self._rules,
            "upstreams": {name: limit.to_json() for name, limit in limits},
        }


class Notice:
    """Puts the condition of this process where those of its replicas are; close it at the end."""

    def __init__(
        self, replicas: Replicas, condition: ProcessCondition, seconds: float = NOTICE_SECONDS
    ) -> None:
        self._replicas = replicas
        self._condition = condition
        self._seconds = seconds
        self._task = supervised("the notice of this replica", self._tell)

    async def close(self) -> None:
        """Take it away."""
        await stop(self._task)
        with contextlib.suppress(OSError):
            await self._replicas.leave()

    async def _tell(self) -> None:
        while True:
            notice = json.dumps(await self._condition.tell()).encode()
            # Whoever stores something says what is wrong; a notice is worth no line of the log.
            with contextlib.suppress(OSError):
                await self._replicas.tell(notice)
            await asyncio.sleep(self._seconds)
