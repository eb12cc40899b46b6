# SPDX-License-Identifier: Apache-2.0
"""The holder of an overlaid image that breaks off, lies, or dies in the middle of a blob."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from buildset_registry.errors import BlobUnknown, ImageGone, ManifestUnknown, UpstreamFailed
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.overlay.client import OverlayClient, holder_client
from buildset_registry.overlay.document import FILE, ImageHolder, Overlay
from buildset_registry.overlay.holders import HolderClients
from buildset_registry.overlay.table import OverlaidTags
from buildset_registry.pullthrough import Pace, PullThrough
from buildset_registry.registry import Registry
from buildset_registry.store.base import Store
from buildset_registry.store.filesystem.store import FilesystemStore
from trustme import CA

from tests.unit.pullthrough.reading import arriving, read
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    NAME,
    V1,
    V1_PATH,
    Connect,
    Server,
    blob,
    breaking,
    eventually,
    halting,
    hanging_up,
    manifest,
    reply,
    serving,
)

CONFIG = b"{}"
MADE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": str(Digest.of(CONFIG)), "size": 2, "mediaType": "x/y"},
        "layers": [{"digest": str(BLOB_DIGEST), "size": len(BLOB), "mediaType": "x/y"}],
    }
).encode()
DIGEST = Digest.of(MADE)
THERE = f"/v2/built/app/manifests/{DIGEST}"
LAYER = f"/v2/built/app/blobs/{BLOB_DIGEST}"
TOKEN = "the.token.itself"


@pytest.fixture
async def holder(tls: object) -> AsyncIterator[Server]:
    """The registry that holds the image, which takes the token alone."""
    async with serving(tls, "127.0.0.2") as server:  # type: ignore[arg-type]
        server.on(THERE, manifest(MADE, "application/vnd.oci.image.manifest.v1+json"))
        server.on(LAYER, blob())
        yield server


def hand(folder: Path, holder: Server, authority: CA, token: str = TOKEN) -> None:
    """Hand the image over as the tag that upstream has, too; in place of what was before."""
    image = {"digest": str(DIGEST), "repository": "built/app", "build": "8c15", "change": "1,1"}
    handed = {
        "registry": {
            "host": f"127.0.0.2:{holder.port}",
            "cert": authority.cert_pem.bytes().decode(),
        },
        "token": token,
        "expires": 1e9,
        "images": {"quay.io/org/app:v1": image},
    }
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps({"version": 1, "handed": [handed]}))
    for one in Overlay.load(folder).images.values():
        assert one.holder.authority is not None
        (folder / one.holder.authority).write_text(one.holder.cert)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A place for what is pulled through."""
    async with aclosing(FilesystemStore(tmp_path / "data")) as opened:
        yield opened


@pytest.fixture
def client(
    tmp_path: Path, holder: Server, connect: Connect, authority: CA, store: Store
) -> OverlayClient:
    """The client of a registry that has been handed the image."""
    hand(tmp_path / "overlay", holder, authority)
    return OverlayClient(connect(), OverlaidTags(tmp_path / "overlay"), store)


@pytest.fixture
async def registry(
    tmp_path: Path, quay: Server, store: Store, client: OverlayClient
) -> AsyncIterator[Registry]:
    """A registry that asks by it."""
    quay.on(V1_PATH, manifest())
    quay.on(BLOB_PATH, blob())
    table = OverlaidTags(tmp_path / "overlay")
    through = PullThrough(store, client, pace=Pace(piece=1000, pause=0, attempts=2), fixed=[table])
    yield Registry(store, through, fixed=[table])
    await through.close()


async def test_the_token_is_all_that_is_sent(registry: Registry, holder: Server) -> None:
    """At once, and to the holder alone: no login is asked for."""
    assert (await registry.manifest(NAME, V1)).digest == DIGEST
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert {asked.authorization for asked in holder.asked} == {f"Bearer {TOKEN}"}


async def test_a_holder_that_dies_in_mid_blob_is_named(
    registry: Registry, holder: Server, quay: Server
) -> None:
    """Whoever reads gets an error; upstream has the same blob, and is not asked for it."""
    await registry.manifest(NAME, V1)
    holder.on(LAYER, breaking(BLOB, 5000), hanging_up())
    found = arriving(await registry.blob(NAME, BLOB_DIGEST))
    with pytest.raises(UpstreamFailed, match=rf"upstream 127\.0\.0\.2:{holder.port} "):
        await read(found)
    with pytest.raises(UpstreamFailed, match=rf"upstream 127\.0\.0\.2:{holder.port} "):
        await registry.blob(NAME, BLOB_DIGEST)
    assert quay.asked == []
    holder.on(LAYER, blob())
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB


async def test_wrong_bytes_are_the_holder_s_fault(registry: Registry, holder: Server) -> None:
    """They are not stored, and the line names who sent them."""
    await registry.manifest(NAME, V1)
    holder.on(LAYER, reply(200, bytes(len(BLOB))))
    with pytest.raises(UpstreamFailed, match=rf"upstream 127\.0\.0\.2:{holder.port}: .* another"):
        await read(await registry.blob(NAME, BLOB_DIGEST))


async def test_a_token_that_is_refused_is_not_followed_by_a_login(
    registry: Registry, holder: Server, quay: Server
) -> None:
    """Nobody would be let in for it, and a token server is not to see it."""
    refusal = reply(401, WWW_Authenticate=f'Bearer realm="{holder.url}/token"')
    holder.on(THERE, refusal)
    with pytest.raises(UpstreamFailed, match="made by build 8c15 of change 1,1: the token for it"):
        await registry.manifest(NAME, V1)
    assert holder.at("/token") == []
    assert quay.asked == []


async def test_what_the_holder_says_of_a_removal_is_passed_on(
    registry: Registry, holder: Server
) -> None:
    """When, and by which rule; in one line, however it is said."""
    said = "org/app has no manifest; it was removed on 2026-11-29\n\tby rule 'old'\x1b of the "
    said += "retention"
    body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": said}]}).encode()
    holder.on(THERE, reply(404, body))
    with pytest.raises(ImageGone) as caught:
        await registry.manifest(NAME, V1)
    assert caught.value.message == (
        "quay.io/org/app:v1, made by build 8c15 of change 1,1: "
        f"127.0.0.2:{holder.port} has removed it since, or a part of it ({DIGEST}), and says: "
        "org/app has no manifest; it was removed on 2026-11-29 by rule 'old' of the retention; "
        "run that build again"
    )
    for odd in (b"", b"<html>", b'{"errors": []}', b'{"errors": [3]}', b"[" * 100_000):
        holder.on(THERE, reply(404, odd))
        with pytest.raises(ImageGone, match=r"part of it .*; run that build"):
            await registry.manifest(NAME, V1)


async def test_a_client_that_knows_the_image_gets_its_layers(
    registry: Registry, holder: Server, quay: Server
) -> None:
    """It asks for no manifest: what no upstream has, the holder is asked for."""
    quay.on(BLOB_PATH, reply(404))
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert len(holder.at(LAYER)) == 1


async def test_where_nobody_has_it_the_holder_s_failure_counts(
    registry: Registry, holder: Server, quay: Server
) -> None:
    """Upstream's no would be believed; the one who may have it does not answer."""
    quay.on(BLOB_PATH, reply(404))
    holder.on(LAYER, hanging_up())
    with pytest.raises(UpstreamFailed, match=rf"upstream 127\.0\.0\.2:{holder.port} "):
        await registry.blob(NAME, BLOB_DIGEST)


async def test_who_asks_for_what_nobody_has_costs_the_holders_little(
    tmp_path: Path, registry: Registry, holder: Server, authority: CA, quay: Server
) -> None:
    """However many tokens were handed over for the repository; those that last longest are used."""
    hand(tmp_path / "overlay", holder, authority)
    file = tmp_path / "overlay" / FILE
    tree = json.loads(file.read_text())
    (one,) = tree["handed"]
    image = one["images"]["quay.io/org/app:v1"]
    tree["handed"] = [
        {
            **one,
            "token": f"t.{ends}",
            "expires": 1e9 + ends,
            "images": {f"quay.io/org/app:{ends}": image},
        }
        for ends in range(100)
    ]
    file.write_text(json.dumps(tree))
    quay.on(BLOB_PATH, reply(404))
    nothing = Digest.of(b"nobody has it")
    with pytest.raises(BlobUnknown):
        await registry.blob(NAME, nothing)
    used = [asked.authorization for asked in holder.at(f"/v2/built/app/blobs/{nothing}")]
    assert used == [f"Bearer t.{ends}" for ends in range(99, 67, -1)]


async def test_repositories_without_overlay_are_upstream_s_alone(
    registry: Registry, holder: Server, quay: Server
) -> None:
    """Nor is the holder asked about another tag."""
    quay.on("/v2/org/other/manifests/v1", manifest())
    await registry.manifest(RepositoryName("quay.io/org/other"), Tag("v1"))
    quay.on("/v2/org/app/manifests/v2", manifest())
    await registry.manifest(NAME, Tag("v2"))
    assert holder.asked == []


async def test_a_client_goes_with_its_token_and_not_under_who_reads(
    tmp_path: Path, registry: Registry, holder: Server, authority: CA, client: OverlayClient
) -> None:
    """A registry that stays is handed a token for each buildset; a transfer ends by its own."""
    await registry.manifest(NAME, V1)
    clients, go_on = client._clients, asyncio.Event()
    holder.on(LAYER, halting(go_on, BLOB, 5000))
    reading = asyncio.ensure_future(read(await registry.blob(NAME, BLOB_DIGEST)))
    await eventually(lambda: holder.at(LAYER))
    for number in range(50):
        hand(tmp_path / "overlay", holder, authority, f"token.{number}")
        subject = Digest.of(b"%d" % number)
        assert await has_no(registry, subject)
        assert len(clients) <= 2
    go_on.set()
    assert await reading == BLOB
    assert await has_no(registry, Digest.of(b"another"))
    assert len(clients) == 1
    assert {one.authorization for one in holder.asked} >= {"Bearer token.49", f"Bearer {TOKEN}"}


async def has_no(registry: Registry, digest: Digest) -> bool:
    """Tell that nobody has a manifest, for which the holder is asked."""
    try:
        await registry.manifest(NAME, digest)
    except ManifestUnknown:
        return True
    return False


async def test_of_two_tokens_for_one_image_the_one_that_lasts_counts(
    tmp_path: Path, registry: Registry, holder: Server, authority: CA
) -> None:
    """Two jobs handed the same image over under two tags; the first one's token has ended."""
    hand(tmp_path / "overlay", holder, authority)
    file = tmp_path / "overlay" / FILE
    tree = json.loads(file.read_text())
    (ended,) = tree["handed"]
    images = {"quay.io/org/app:v2": ended["images"]["quay.io/org/app:v1"]}
    tree["handed"].append({**ended, "token": "later", "expires": 4e9, "images": images})
    file.write_text(json.dumps(tree))
    assert (await registry.manifest(NAME, Tag("v2"))).digest == DIGEST
    assert await read(await registry.blob(NAME, BLOB_DIGEST)) == BLOB
    assert {one.authorization for one in holder.asked} == {"Bearer later"}


async def test_few_clients_are_kept_whom_nobody_uses(tmp_path: Path) -> None:
    """However many tokens are in the overlay at once."""
    holders = [
        ImageHolder(RegistryHost.parse("intermediate.example:5000"), token=f"token.{number}")
        for number in range(100)
    ]
    clients = HolderClients(lambda holder: holder_client(holder, tmp_path), lambda: holders)
    for holder in holders:
        async with clients.using(holder) as client, clients.using(holder) as again:
            assert client is again
    assert len(clients) == 32
    await clients.close()
    assert len(clients) == 0
