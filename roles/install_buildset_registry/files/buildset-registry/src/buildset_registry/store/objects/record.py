# SPDX-License-Identifier: Apache-2.0
"""The object that tells of one session: read anew for each request, replaced under a condition."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial

from buildset_registry.parallel import together
from buildset_registry.store.objects.context import UploadContext
from buildset_registry.store.objects.dialect import (
    ABSENT,
    Body,
    Condition,
    ConditionFailed,
)
from buildset_registry.store.objects.sessions import DATA, STARTED, SessionState
from buildset_registry.store.objects.small import put_once


class SessionRecord:
    """The state of a session in the bucket, and in which version this process knows it."""

    def __init__(self, context: UploadContext) -> None:
        self.version: str | None = None
        self._context = context

    async def is_current(self) -> bool:
        """Tell whether it is still as it is known here."""
        found = await self._context.dialect.head(self._context.state)
        return found is not None and found.version == self.version

    async def read(self) -> SessionState | None:
        """Return what it tells; None where there is none."""
        found = await self._context.small.read(self._context.state)
        self.version = None if found is None else found.version
        return None if found is None else SessionState.decode(found.content) or SessionState()

    async def put(self, content: Body) -> None:
        """Write it, whatever is there."""
        self.version = await self._context.dialect.put(self._context.state, content)

    async def swap(self, content: Body) -> bytes | None:
        """Replace what is known; returns what another request left there, if one was faster."""
        context = self._context
        condition = ABSENT if self.version is None else Condition(self.version)
        try:
            self.version = await put_once(context.dialect, context.state, content, condition)
        except ConditionFailed:
            found = await context.small.read(context.state)
            return found.content if found else b""
        return None

    async def start(self, made: float | None) -> None:
        """Tell distribution when the session began: its purge goes by that."""
        started = datetime.fromtimestamp(made or time.time(), timezone.utc)
        content = started.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        await self._context.small.write(f"{self._context.folder}{STARTED}", content)

    async def end(self, state: SessionState) -> bool:
        """Keep others from making a blob of the session; False where one does so already.

        Only where blobs may stay where they arrived: what a session brought may be one by now.
        """
        if not self._context.staging.used:
            return True
        return await self.swap(replace(state, ended=True).encode(Body(0, ()))) is None

    async def remove(self, names: Sequence[str]) -> None:
        """Remove the session's objects, by their names: to ask for a list takes longer.

        Its state goes last where it keeps others away from the rest.
        """
        context = self._context
        keys = [f"{context.folder}{name}" for name in names]
        if context.staging.used and DATA in names:
            await together(keys, context.dialect.delete)
            await context.dialect.delete(context.state, plain=True)
        else:
            plain = partial(context.dialect.delete, plain=DATA not in names)
            await together([*keys, context.state], plain)
        context.small.forget([*keys, context.state])
