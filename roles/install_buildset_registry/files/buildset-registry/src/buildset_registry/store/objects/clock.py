# SPDX-License-Identifier: Apache-2.0
"""The clock of a service, which the times of its objects are of."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from buildset_registry.store.objects.dialect import Body, Objects

#: Seconds by which a time of an object may be later than it is: the end of its second is told.
_SECOND = 1.0
#: Seconds that are worth a line in the log.
_MUCH = 60
_log = logging.getLogger("buildset_registry.store")


@dataclass(slots=True)
class ServiceClock:
    """The seconds by which this machine is ahead of the service; one that is late does no harm.

    Whoever is ahead takes what was just stored for old: a collection would remove it.
    """

    ahead: float = 0.0

    def now(self) -> float:
        """Return the time by the service's clock, or an earlier one."""
        return time.time() - self.ahead

    async def compare(self, objects: Objects, key: str) -> None:
        """Find it out by an object that is written and removed."""
        await objects.put(key, Body(0, ()))
        state = await objects.head(key)
        ahead = 0.0 if state is None else time.time() - state.changed
        self.ahead = ahead + _SECOND if ahead > _SECOND else 0.0
        if self.ahead > _MUCH:
            _log.warning(
                "the clock of this machine is %d s ahead of the object store's; set it", self.ahead
            )
        await objects.delete(key)
