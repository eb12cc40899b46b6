# SPDX-License-Identifier: Apache-2.0
"""From the configuration to the upstreams, and to the lock by which their tags are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from buildset_registry.config import Config, UpstreamSettings
from buildset_registry.image_lock.currency import missing, told_missing
from buildset_registry.image_lock.document import ImageLock
from buildset_registry.image_lock.folder import FolderClient, ImageFolder, told_lacking
from buildset_registry.image_lock.table import LockedTags, check_configured
from buildset_registry.upstream.client import UpstreamClient
from buildset_registry.upstream.hosts import Upstream, Upstreams

_log = logging.getLogger("buildset_registry.upstream")

#: Seconds that upstreams may take, together, to tell what they have no more.
_CHECK_SECONDS = 20.0


def upstreams_of(config: Config) -> Upstreams:
    """Return the registries that may be asked."""
    return Upstreams(map(_upstream, config.upstreams))


def upstream_client(config: Config) -> UpstreamClient:
    """Return what asks them, and before them the folder of a lock's images."""
    upstreams = upstreams_of(config)
    for table in locked_tags(config):
        if config.lock is not None and config.lock.images is not None:
            return FolderClient(upstreams, ImageFolder(config.lock.images, table.lock))
    return UpstreamClient(upstreams)


def locked_tags(config: Config) -> tuple[LockedTags, ...]:
    """Return the table of the lock that is replayed, if there is one."""
    if config.lock is None:
        return ()
    lock = ImageLock.load(config.lock.file)
    check_configured(lock, [upstream.name for upstream in config.upstreams])
    return (LockedTags(lock, strict=config.lock.mode == "strict"),)


async def warn_of_missing(client: UpstreamClient, lock: ImageLock) -> None:
    """Log what the folder lacks of a lock, and what upstreams have no more: a line for each."""
    for line in await _missing(client, lock):
        _log.warning("%s", line)


def warnings(config: Config) -> list[str]:
    """Return what has to be known of the lock before anybody pulls."""

    async def ask(lock: ImageLock) -> list[str]:
        client = upstream_client(config)
        try:
            return await _missing(client, lock)
        finally:
            await client.close()

    return [line for table in locked_tags(config) for line in asyncio.run(ask(table.lock))]


async def _missing(client: UpstreamClient, lock: ImageLock) -> list[str]:
    lacking = told_lacking(client.folder, lock) if isinstance(client, FolderClient) else None
    lines = [] if lacking is None else [lacking]
    with contextlib.suppress(asyncio.TimeoutError):
        gone = await asyncio.wait_for(missing(client, lock), _CHECK_SECONDS)
        lines += [told_missing(lock, gone)] if gone else []
    return lines


def _upstream(settings: UpstreamSettings) -> Upstream:
    return Upstream(
        name=settings.name,
        url=settings.url,
        mirror=settings.mirror,
        ca=settings.ca,
        username=settings.username,
        password=settings.password,
    )
