# SPDX-License-Identifier: Apache-2.0
"""The clock of a registry, which may be wrong: what is known of the past is kept in a document."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from buildset_registry.pacing import paced
from buildset_registry.retention.timeline import Timeline
from buildset_registry.store.base import Contents
from buildset_registry.store.documents import Documents, read_content

_log = logging.getLogger("buildset_registry.retention")

#: The name of the document.
_NAME = "clock"
#: Seconds by which this host and the store may differ.
APART = 300.0


class Clock:
    """The time, and what is known of it.

    ``apart`` is by how many seconds it may differ from the clock that stamps what is stored.
    """

    def __init__(
        self,
        documents: Documents,
        contents: Contents,
        now: Callable[[], float] = time.time,
        apart: float = APART,
    ) -> None:
        self._documents = documents
        self._contents = contents
        self.now = now
        self._apart = apart

    async def sign(self) -> Timeline:
        """Write down that the registry runs now, and say what is wrong with the clock."""
        timeline, message = (await self._known()).observe(self.now())
        await self._documents.write(_NAME, timeline.to_json())
        if message:
            _log.warning("%s", message)
        return timeline

    async def look(self) -> Timeline:
        """Return what ``sign`` would, and write nothing."""
        return (await self._known()).observe(self.now())[0]

    async def difference(self) -> str:
        """Return what is to be said where this host's clock is not that of the store."""
        document = await self._documents.read(_NAME)
        known = None if document is None else Timeline.from_json(document.content)
        if document is None or known is None:
            return ""
        apart = known.last - document.changed
        if abs(apart) <= self._apart:
            return ""
        which = "ahead of" if apart > 0 else "behind"
        return (
            f"the clock of this host is {abs(apart):.0f} seconds {which} that of the store; "
            "set it right"
        )

    async def _known(self) -> Timeline:
        """Return what was written down; the first time, what the content itself tells.

        Nobody knows what was pulled before, so that begins now.
        """
        content = await read_content(self._documents, _NAME)
        known = None if content is None else Timeline.from_json(content)
        if known is not None:
            return known
        now = self.now()
        return Timeline(now, await self._newest() or now)

    async def _newest(self) -> float:
        """Return when something was last pushed; 0 where nothing was."""
        newest = 0.0
        for name in await self._contents.repositories():
            async for state in paced(await self._contents.pushed(name).manifests.all()):
                newest = max(newest, state.used)
        return newest
