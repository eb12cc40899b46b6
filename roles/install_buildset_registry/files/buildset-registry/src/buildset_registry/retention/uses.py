# SPDX-License-Identifier: Apache-2.0
"""Uses of images: who pulls is not held up, and the time is written to the manifest's link soon.

A link's time is when it was made or last used, in every kind of store: so it survives a restart,
and all replicas see it. A link that was written a short while ago is not written again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from buildset_registry.background import stop, supervised
from buildset_registry.errors import RegistryError
from buildset_registry.latest import Latest
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.pacing import paced
from buildset_registry.store.base import Contents

_log = logging.getLogger("buildset_registry.retention")

#: Seconds between two rounds; with what a round takes, what a killed process can lose.
_ROUND = 10.0
#: Seconds between two signs of a registry that runs.
_SIGN = 600.0
#: Seconds within which a link is not written again, and links of which that is remembered.
_NOTED = 3600.0
_REMEMBERED = 50_000
#: Uses that one round tries in vain, and seconds for which it does: where a disk or a service takes
#: nothing, each waits for it, and so does who wants the process to end.
_VAIN = 16
_VAIN_SECONDS = 5.0
#: Uses that one round has room for: those that are left out then are images that others use too.
_MOST = 50_000

#: A repository and the digest of a manifest, as clients see them.
Use = tuple[RepositoryName, str]


class Uses:
    """The uses of one process; ``sign`` is called again and again while it runs."""

    def __init__(
        self,
        contents: Contents,
        sign: Callable[[], Awaitable[object]],
        *,
        noted: float = _NOTED,
        pause: float = _ROUND,
    ) -> None:
        self._contents = contents
        self._sign = sign
        self._noted_seconds = noted
        self._pause = pause
        self._waiting: set[Use] = set()
        self._noted: Latest[Use, float] = Latest(_REMEMBERED)
        self._refused: set[Use] = set()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin to write."""
        self._task = supervised("writing down what is used", self._run)

    async def close(self) -> None:
        """Write the rest."""
        if self._task is not None:
            await stop(self._task)
            await self.flush()

    def add(self, name: RepositoryName, digest: str) -> None:
        """Take a use of a manifest, at once."""
        if len(self._waiting) < _MOST:
            self._waiting.add((name, digest))

    def is_waiting(self, name: RepositoryName, digests: Iterable[Digest]) -> bool:
        """Tell whether something of a repository was used, and that is not written yet."""
        if not self._waiting:
            return False
        texts = list(map(str, digests))
        return any((one, text) in self._waiting for one in name.names for text in texts)

    async def flush(self) -> None:
        """Write what waits; what cannot be written now is written the next time.

        One link that takes no time, such as one that belongs to another user, keeps no other use
        from being written: what was refused before comes last.
        """
        async with self._writing:
            errors, vain = list[OSError](), 0.0
            async for use in paced(sorted(self._waiting, key=self._refused.__contains__)):
                began = time.monotonic()
                try:
                    if began > self._noted.get(use, 0.0):
                        await self._note(use)
                except OSError as error:
                    errors.append(error)
                    self._refused.add(use)
                    vain += time.monotonic() - began
                    if len(errors) == _VAIN or vain > _VAIN_SECONDS:
                        break
                else:
                    self._waiting.discard(use)
                    self._refused.discard(use)
            self._tell(errors)

    def _tell(self, errors: list[OSError]) -> None:
        """Log why uses cannot be written, each reason once as long as it lasts."""
        reasons = {error.strerror or str(error): error for error in reversed(errors)}
        for reason in reasons.keys() - self._told:
            _log.error("the use of images cannot be written: %s; pulls go on", reasons[reason])
        self._told = set(reasons)

    async def _note(self, use: Use) -> None:
        name, text = use
        try:
            digest = Digest.parse(text)
        except RegistryError:
            return
        for one in name.names:
            await self._contents.pushed(one).manifests.use(digest)
        self._noted[use] = time.monotonic() + self._noted_seconds

    async def _run(self) -> None:
        next_sign = 0.0
        while True:
            if time.monotonic() >= next_sign:
                await self._try_to_sign()
                next_sign = time.monotonic() + _SIGN
            await self.flush()
            await asyncio.sleep(self._pause)

    async def _try_to_sign(self) -> None:
        try:
            await self._sign()
        except OSError as error:
            _log.warning("the registry cannot write that it runs: %s", error)
