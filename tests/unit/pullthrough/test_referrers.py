# SPDX-License-Identifier: Apache-2.0
"""What refers to a manifest, at upstream and here: signatures, SBOMs."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from buildset_registry.errors import UpstreamBusy, UpstreamFailed
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import referrers_tag
from buildset_registry.pullthrough import PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.filesystem.store import FilesystemStore
from buildset_registry.upstream.client import UpstreamClient

from tests.unit.upstream.lab import (
    MANIFEST,
    NAME,
    V1,
    V1_PATH,
    Server,
    manifest,
    reply,
)

#: What registries answer that do not know the API.
NO_API = (400, 401, 403, 404, 405, 406, 415, 501)
SUBJECT = Digest.of(MANIFEST)
PATH = f"/v2/org/app/referrers/{SUBJECT}"
TAG_PATH = f"/v2/org/app/manifests/{referrers_tag(SUBJECT)}"


def artifact(kind: str) -> bytes:
    """Return a manifest that refers to the subject."""
    subject = {"mediaType": OCI_INDEX, "digest": str(SUBJECT), "size": len(MANIFEST)}
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "artifactType": kind}
    return json.dumps({**tree, "subject": subject}).encode()


def entry(kind: str, **more: object) -> dict[str, object]:
    """Return what a list of referrers says of an artifact."""
    raw = artifact(kind)
    return {
        "mediaType": OCI_INDEX,
        "digest": str(Digest.of(raw)),
        "size": len(raw),
        "artifactType": kind,
        **more,
    }


def listing(*entries: dict[str, object], **headers: str) -> Callable[..., Any]:
    """Return an answer with a list of referrers."""
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return manifest(json.dumps(tree).encode(), **headers)


@pytest.fixture
async def registry(
    store: FilesystemStore, connect: Callable[..., UpstreamClient]
) -> AsyncIterator[Registry]:
    pull_through = PullThrough(store, connect())
    yield Registry(store, pull_through)
    await pull_through.close()


async def kinds(registry: Registry, artifact_type: str | None = None) -> list[str]:
    found = (await registry.referrers(NAME, SUBJECT, artifact_type)).items
    return sorted(str(one.artifact_type) for one in found)


async def test_upstreams_list_and_ours_are_one(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Each entry once, with its annotations; the filter is for all of them."""
    quay.on(PATH, listing(entry("a/sbom", annotations={"by": "quay"}), entry("a/signature")))
    for kind in ("a/signature", "a/test"):
        await Registry(store).push_manifest(NAME, [Digest.of(artifact(kind))], artifact(kind))
    assert await kinds(registry) == ["a/sbom", "a/signature", "a/test"]
    assert await kinds(registry, "a/sbom") == ["a/sbom"]
    (sbom,) = (await registry.referrers(NAME, SUBJECT, "a/sbom")).items
    assert sbom.annotations == {"by": "quay"}
    assert quay.asked[0].headers["Accept"] == OCI_INDEX


async def test_a_list_in_pages(registry: Registry, quay: Server) -> None:
    """All of them are read; a link that leads elsewhere is not followed."""
    answers = [
        listing(entry("a/1"), Link=f'<{PATH}?n=1&last=1>; rel="next"'),
        listing(entry("a/2"), Link='<?n=1&last=2>; rel="next"'),
        listing(entry("a/3"), Link='<https://127.0.0.2:1/v2/x>; rel="next"'),
    ]
    quay.on(PATH, *answers)
    assert await kinds(registry) == ["a/1", "a/2", "a/3"]
    assert [asked.query for asked in quay.asked] == ["", "n=1&last=1", "n=1&last=2"]


async def test_a_list_that_does_not_end(registry: Registry, quay: Server) -> None:
    """It is not read for ever."""
    quay.on(PATH, listing(Link=f"<{PATH}?again>; rel=next"))
    assert await kinds(registry) == []
    assert len(quay.asked) == 50


async def test_large_pages_of_a_list_that_does_not_end(registry: Registry, quay: Server) -> None:
    """No more is read than may be held in memory."""
    filler = {f"p{number}": "x" * 1000 for number in range(3000)}
    quay.on(PATH, listing(entry("a/1", annotations=filler), Link=f"<{PATH}?again>; rel=next"))
    with pytest.raises(UpstreamFailed, match="sends more than 4096 KiB"):
        await kinds(registry)
    assert len(quay.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        *(reply(status) for status in NO_API),
        reply(200, MANIFEST),
        reply(200, b"<html>"),
        manifest(b"{}", "application/json"),
        manifest(b'{"manifests": [1]}'),
    ],
    ids=[*map(str, NO_API), "the subject", "a web page", "no list", "a bad list"],
)
async def test_a_registry_without_the_api(
    registry: Registry, quay: Server, answer: Callable[..., Any]
) -> None:
    """Clients keep the list under a tag there; it is fetched once, like any tag."""
    quay.on(PATH, answer)
    quay.on(TAG_PATH, listing(entry("a/signature")))
    for _ in range(2):
        assert await kinds(registry) == ["a/signature"]
    assert len(quay.at(TAG_PATH)) == 1


async def test_a_tag_that_leads_to_the_subject_lists_nothing(
    registry: Registry, store: FilesystemStore, quay: Server
) -> None:
    """Some registries take the tag for the digest; the platforms of an image refer to nothing."""
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry("a/platform")]}
    image = json.dumps(tree).encode()
    subject = Digest.of(image)
    quay.on(f"/v2/org/app/manifests/{referrers_tag(subject)}", manifest(image))
    assert not (await registry.referrers(NAME, subject, None)).items
    quay.on(f"/v2/org/app/referrers/{subject}", manifest(image))
    assert not (await registry.referrers(NAME, subject, None)).items


async def test_a_list_that_is_larger_than_a_manifest_may_be_is_refused(
    registry: Registry, quay: Server
) -> None:
    """All its pages together; one that is cut short would hide a signature without a word."""
    large = entry("a/large", annotations={"a": "b" * 3_000_000})
    quay.on(PATH, listing(large, Link=f"<{PATH}?again>; rel=next"))
    with pytest.raises(UpstreamFailed, match="sends more than 4096 KiB"):
        await kinds(registry)
    assert len(quay.asked) == 2


async def test_what_nothing_refers_to(registry: Registry, quay: Server) -> None:
    """The list is empty; that is no error."""
    assert await kinds(registry) == []
    assert len(quay.asked) == 2


@pytest.mark.parametrize(
    ("answer", "error"), [(reply(429), UpstreamBusy), (reply(500), UpstreamFailed)]
)
async def test_where_upstream_fails_the_store_has_to_do(
    registry: Registry,
    quay: Server,
    caplog: pytest.LogCaptureFixture,
    answer: Callable[..., Any],
    error: type[UpstreamFailed],
) -> None:
    """What is known of an image that is here is served, logged as stale; otherwise it fails."""
    quay.on(PATH, answer)
    with pytest.raises(error, match=r"upstream quay\.io"):
        await kinds(registry)
    quay.on(V1_PATH, manifest())
    await registry.manifest(NAME, V1)
    quay.on(f"/v2/org/app/manifests/{Digest.of(artifact('a/b'))}", manifest(artifact("a/b")))
    await registry.manifest(NAME, Digest.of(artifact("a/b")))
    with caplog.at_level(logging.WARNING):
        assert await kinds(registry) == ["a/b"]
    assert "are stale, those of the store: upstream quay.io" in caplog.text


async def test_an_endpoint_without_pull_through_asks_nobody(
    store: FilesystemStore, quay: Server
) -> None:
    """It lists what the store holds."""
    await Registry(store).push_manifest(NAME, [V1], artifact("a/b"), OCI_INDEX)
    assert await kinds(Registry(store)) == ["a/b"]
    assert quay.asked == []
