# SPDX-License-Identifier: Apache-2.0
"""From the settings of garbage collection and retention to what the collector goes by."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict

from buildset_registry.config import Config, GcSettings, QuotaSettings, RetentionRuleSettings
from buildset_registry.gc import AtUpstream, CollectionRules
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryMatcher, RepositoryPattern, TagMatcher
from buildset_registry.retention import (
    Leases,
    Quota,
    Retention,
    RetentionPolicy,
    RetentionRule,
    serve_without,
)
from buildset_registry.server.replay import upstreams_of
from buildset_registry.store.base import Store


def collection_rules(
    settings: GcSettings, retention: Retention | None = None, leases: Leases | None = None
) -> CollectionRules:
    """Return the rules of the garbage collector."""
    return CollectionRules(
        grace=settings.grace,
        untagged=settings.untagged,
        uploads=settings.uploads,
        cache_size=settings.cache_size,
        retention=retention,
        leases=leases,
    )


def possibly_at_upstream(config: Config) -> AtUpstream:
    """Return what a command takes for an upstream's word, which asks nobody: it may have all."""
    upstreams = upstreams_of(config)

    async def at_upstream(name: RepositoryName, _digest: Digest) -> bool:
        return upstreams.find(name) is not None

    return at_upstream


def retention_of(config: Config, store: Store) -> Retention | None:
    """Return the retention of a store, if there is to be any."""
    policy = retention_policy(config)
    return None if policy is None else Retention(policy, store)


async def keep_retention(config: Config, store: Store, stack: AsyncExitStack) -> Retention | None:
    """Return the retention of a store that is served, which has begun to write down uses."""
    retention = retention_of(config, store)
    if retention is None:
        with suppress(OSError):
            await serve_without(store)
    else:
        stack.push_async_callback(retention.close)
        await retention.start()
    return retention


def keep_leases(store: Store, stack: AsyncExitStack) -> Leases:
    """Return the leases of images in a store that is served."""
    leases = Leases(store)
    leases.start()
    stack.push_async_callback(leases.close)
    return leases


def retention_policy(config: Config) -> RetentionPolicy | None:
    """Return the rules and quotas that are configured, if there are any."""
    settings = config.retention
    if settings is None:
        return None
    return RetentionPolicy(
        rules=[_rule(number, rule) for number, rule in enumerate(settings.rules, 1)],
        quotas=list(map(_quota, settings.quotas)),
        delay=settings.delay,
        fingerprint=json.dumps(asdict(settings), sort_keys=True),
    )


def _rule(number: int, settings: RetentionRuleSettings) -> RetentionRule:
    return RetentionRule(
        name=f"rule {settings.name or number}",
        repositories=list(map(RepositoryMatcher, settings.repositories)),
        tags=list(map(TagMatcher, settings.tags)),
        pulled_within=settings.keep_pulled_within or None,
        pushed_within=settings.keep_pushed_within or None,
        last=settings.keep_last or None,
        protect=settings.protect,
    )


def _quota(settings: QuotaSettings) -> Quota:
    inside = RepositoryPattern(f"{settings.prefix}/**")
    return Quota(
        prefix=settings.prefix,
        repositories=[RepositoryMatcher(settings.prefix), RepositoryMatcher(inside)],
        soft=settings.soft,
        hard=settings.hard,
    )
