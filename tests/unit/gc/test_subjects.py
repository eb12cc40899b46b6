# SPDX-License-Identifier: Apache-2.0
"""Signatures of images that are not beside them: cached, at upstream, or under the other name."""

import json
from dataclasses import replace

import pytest
from buildset_registry.errors import UpstreamBusy, UpstreamFailed
from buildset_registry.gc import AtUpstream, collect
from buildset_registry.manifest_links import link_manifest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import Manifest
from buildset_registry.oci.names import RepositoryName
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store

from tests.unit.gc.images import (
    RULES,
    UNTAGGED,
    Described,
    cache_image,
    clean,
    descriptor,
    push_image,
    silent,
)

APP, LIBRARY = RepositoryName("app"), RepositoryName("library/app")
QUAY = RepositoryName("quay.io/org/app")
CONFIG = descriptor(Digest.of(b"{}"), 2)
IMAGE = json.dumps(
    {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}
).encode()
SUBJECT = descriptor(Digest.of(IMAGE), len(IMAGE), OCI_MANIFEST)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


async def cache(store: Store, name: RepositoryName) -> None:
    """Pull the image through."""
    await store.blobs.put(Digest.of(IMAGE), IMAGE)
    await link_manifest(store.cached(name), Manifest.parse(IMAGE, OCI_MANIFEST))


async def sign(registry: Registry, name: RepositoryName) -> Described:
    """Push a signature of the image, and one of that signature; return the second."""
    signature = await push_image(registry, name=name, subject=SUBJECT)
    return await push_image(registry, name=name, subject=signature, layers=[b"second"])


async def is_there(store: Store, name: RepositoryName, signature: Described) -> bool:
    return await store.pushed(name).manifests.has(Digest.parse(signature["digest"]))


def at_upstream(answer: bool | Exception, asked: list[tuple[str, Digest]]) -> AtUpstream:
    """Return an upstream that always answers the same, and notes what it is asked."""

    async def told(name: RepositoryName, digest: Digest) -> bool:
        asked.append((name, digest))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return told


@pytest.mark.parametrize("name", [QUAY, APP, LIBRARY])
async def test_a_signature_lives_as_long_as_its_subject_is_cached(
    store: Store, registry: Registry, name: RepositoryName
) -> None:
    """Nobody pushed the image itself; asking for it here is no use of it."""
    await cache(store, name.canonical)
    signature = await sign(registry, name)
    (before,) = await store.cached(name.canonical).manifests.all()
    report = await clean(store)
    assert not report.removed
    assert await is_there(store, name, signature)
    assert await store.cached(name.canonical).manifests.all() == [before]
    await store.cached(name.canonical).manifests.remove(Digest.of(IMAGE))
    assert (await clean(store)).count("manifest") == 2


@pytest.mark.parametrize(("signed", "pushed"), [(APP, LIBRARY), (LIBRARY, APP)])
async def test_a_signature_lives_as_long_as_its_subject_has_another_name(
    store: Store, registry: Registry, signed: RepositoryName, pushed: RepositoryName
) -> None:
    """An image of Docker Hub has two, and is found by both."""
    image = await push_image(registry, "v1", name=pushed)
    signature = await push_image(registry, name=signed, subject=image)
    assert not (await clean(store, UNTAGGED)).removed
    assert await is_there(store, signed, signature)
    await registry.delete_manifest(pushed, Digest.parse(image["digest"]))
    assert (await clean(store)).count("manifest") == 1


@pytest.mark.parametrize(
    ("answer", "stays"),
    [(True, True), (False, False), (UpstreamFailed(), True), (UpstreamBusy(), True)],
    ids=["there", "gone", "down", "limits"],
)
async def test_a_signature_lives_as_long_as_its_subject_is_at_upstream(
    store: Store, registry: Registry, answer: bool | Exception, stays: bool
) -> None:
    """Also where that cannot be known."""
    signature, asked = await sign(registry, QUAY), list[tuple[str, Digest]]()
    upstream = at_upstream(answer, asked)
    report = await collect(store, RULES, silent, upstream, dry_run=True)
    assert report.count("manifest") == (0 if stays else 2)
    await collect(store, RULES, silent, upstream, dry_run=False)
    assert await is_there(store, QUAY, signature) is stays
    assert {name for name, _digest in asked} == {QUAY}


async def test_an_eviction_takes_no_signature_along(store: Store, registry: Registry) -> None:
    """The image is pulled through again when it is wanted, and is signed then as before."""
    image = await cache_image(store, QUAY, b"{}", b"layer")
    signature = await push_image(registry, name=QUAY, subject=image, layers=[b"signature"])
    asked = list[tuple[str, Digest]]()
    rules = replace(RULES, cache_size=0)
    for _ in range(3):
        await collect(store, rules, silent, at_upstream(True, asked), dry_run=False)
    assert await store.cached(QUAY).manifests.all() == []
    assert await is_there(store, QUAY, signature)


async def test_an_upstream_that_fails_is_asked_once(store: Store, registry: Registry) -> None:
    """Its time-outs would add up; and who is young is not asked for."""
    for number in range(5):
        about = descriptor(Digest.of(b"%d" % number), 1, OCI_MANIFEST)
        await push_image(registry, name=QUAY, subject=about)
    asked = list[tuple[str, Digest]]()
    upstream = at_upstream(UpstreamFailed(), asked)
    await collect(store, replace(RULES, grace=3600), silent, upstream, dry_run=False)
    assert asked == []
    await collect(store, RULES, silent, upstream, dry_run=False)
    assert len(asked) == 1
