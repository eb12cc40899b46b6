# SPDX-License-Identifier: Apache-2.0
"""A report of a registry's files: its ledger, and layers and sizes as far as the store has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError, RegistryError
from buildset_registry.image_lock.currency import update
from buildset_registry.image_lock.record import record
from buildset_registry.ledger.facts import platforms_of
from buildset_registry.ledger.opening import kept_rows
from buildset_registry.ledger.rows import stamp
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest, stored_media_type
from buildset_registry.report.summary import summarize
from buildset_registry.report.values import Layer, MovedTag, PushedImage, Summary
from buildset_registry.store import Purpose, open_store, store_kind
from buildset_registry.store.base import Blobs, Store
from buildset_registry.upstream.client import UpstreamClient

#: Images whose layers are told.
_MOST = 5000
#: Seconds that upstreams have to tell: a job that ends is not to wait for one that is silent.
_ASKED_SECONDS = 30.0
#: Where a tag moved that upstream was asked about for the report.
_SINCE = "moved since it was pulled"


async def gather(config: Config, registry: str, known: Mapping[str, str]) -> Summary:
    """Return the report on a registry, which may be running; ``ConfigError`` without a ledger.

    ``known`` are the names of its nodes by their addresses.
    """
    settings = config.ledger
    if settings is None:
        raise ConfigError(
            f"{registry} keeps no ledger; set ledger.folder in its configuration and start it again"
        )
    async with AsyncExitStack() as stack:
        store: Store | None = None
        if settings.folder is None:
            store = await stack.enter_async_context(_reading(config))
        content = await kept_rows(settings, store)
        report = await asyncio.to_thread(summarize, content, registry, stamp(time.time()), known)
        if report.pushes and store_kind(config).lasting:
            try:
                if store is None:
                    store = await stack.enter_async_context(_reading(config))
                await add_contents(report.pushes, store.blobs)
            except ConfigError as error:
                report.gaps.append(f"layers and sizes are not here: {error}")
    return report


@asynccontextmanager
async def _reading(config: Config) -> AsyncIterator[Store]:
    """Open the store to look only, beside servers that change it."""
    async with aclosing(await open_store(config, Purpose.READ)) as store:
        yield store


async def add_moved(report: Summary, config: Config, client: UpstreamClient) -> None:
    """Ask upstreams which tags that were pulled through have moved since.

    By HEAD, which no upstream counts as a pull.
    """
    try:
        async with _reading(config) as store:
            lock = await record(store)
    except ConfigError as error:
        report.gaps.append(f"upstreams were not asked: {error}")
        return
    try:
        found = await asyncio.wait_for(update(client, lock, []), _ASKED_SECONDS)
    except asyncio.TimeoutError:
        report.gaps.append(f"upstreams did not tell within {_ASKED_SECONDS:g} s what has moved")
        return
    report.moved += [
        MovedTag(name.repository, name.tag, [str(before), str(now)], _SINCE)
        for name, (before, now) in sorted(found.moved.items(), key=str)
    ]
    report.gaps += sorted(
        f"whether {name} has moved since is not known: {reason}"
        for name, reason in found.failed.items()
    )


async def add_contents(pushes: list[PushedImage], blobs: Blobs) -> None:
    """Add the parts of each image to it; of one that is gone, nothing."""
    for push in pushes[:_MOST]:
        with suppress(RegistryError, OSError):
            push.parts = await parts_of(push.digest, blobs)
            push.size = sum(part.size for part in push.parts) if push.parts else None


async def parts_of(digest: str, blobs: Blobs) -> list[Layer]:
    """Return configuration and layers of an image, or what an index lists."""
    raw = await blobs.read(Digest.parse(digest))
    if raw is None:
        return []
    manifest = Manifest.stored(raw, stored_media_type(raw))
    platforms = platforms_of(raw)
    return [
        Layer(str(one.digest), one.media_type, one.size, platforms.get(str(one.digest), ""))
        for one in (*manifest.manifests, *manifest.blobs)
    ]
