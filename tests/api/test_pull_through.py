# SPDX-License-Identifier: Apache-2.0
"""Pull-through as clients see it: two registries over TLS, status, headers and lists."""

import asyncio
import base64
import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import httpx
import pytest
from aiohttp.web import BaseRequest, StreamResponse
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST, OCTETS
from httpx import Response
from trustme import CA

from tests.api.configurations import in_bucket, on_disk, once, only, single_port, two_endpoints
from tests.api.conftest import in_a_thread
from tests.api.harness import Harness, Registry, digest_of, raw
from tests.unit.upstream.lab import (
    BLOB,
    BLOB_DIGEST,
    BLOB_PATH,
    MANIFEST,
    V1_PATH,
    Answer,
    Server,
    blob,
    breaking,
    by_method,
    guarded,
    manifest,
    redirect,
    reply,
)
from tests.waiting import wait_until

TAG = "/v2/quay.io/org/app/manifests/v1"
LAYER = f"/v2/quay.io/org/app/blobs/{BLOB_DIGEST}"
PUSHED = b'{"schemaVersion":2,"manifests":[],"annotations":{"by":"job"}}'
BASIC = "Basic " + base64.b64encode(b"ci:secret").decode()


@pytest.fixture
def start(quay: Server, harness: Harness, authority: CA) -> Callable[..., Registry]:
    """Start a registry in front of that upstream; arguments change the upstream's settings."""
    authority.cert_pem.write_to_path(harness.folder / "ca.pem")

    def make(
        tag_seconds: int | None = None,
        limits: dict[str, int] | None = None,
        **upstream: object,
    ) -> Registry:
        settings = {"name": "quay.io", "url": quay.url, "ca": "ca.pem", **upstream}
        return harness.start(
            upstreams=[settings],
            pull_through={"tag_seconds": tag_seconds},
            limits=limits or {},
        )

    return make


def waiting_for(go: threading.Event, answer: Answer) -> Answer:
    """Answer once another thread has set ``go``."""

    async def wait(request: BaseRequest) -> StreamResponse:
        await asyncio.to_thread(go.wait, 10)
        return await answer(request)

    return wait


def stalling(quay: Server, go: threading.Event) -> dict[str, bytes]:
    """Have upstream send a dozen blobs once ``go`` is set; return them by their paths there."""
    contents = {f"/v2/org/app/blobs/{digest_of(one)}": one for one in map(bytes, range(1, 13))}
    for path, content in contents.items():
        quay.on(path, waiting_for(go, blob(content)))
    return contents


def get_from_elsewhere(registry: Registry, harness: Harness, path: str) -> Response:
    """Ask as a client of another address does."""
    transport = httpx.HTTPTransport(verify=harness.trusted, local_address="127.0.0.2")
    with httpx.Client(base_url=registry.pull.base_url, transport=transport) as other:
        return other.get(path)


def message(answer: Response) -> str:
    return str(answer.json()["errors"][0]["message"])


def test_an_image_that_nobody_pushed(start: Callable[..., Registry], quay: Server) -> None:
    """By path and by namespace; the second pull needs no upstream, and both endpoints list it."""
    registry = start()
    answer = registry.pull.get("/v2/org/app/manifests/v1", params={"ns": "quay.io"})
    assert (answer.status_code, answer.content) == (200, MANIFEST)
    assert answer.headers["docker-content-digest"] == digest_of(MANIFEST)
    assert registry.pull.get(LAYER).content == BLOB
    asked = len(quay.asked)
    assert registry.pull.get(TAG).content == MANIFEST
    assert registry.pull.get(LAYER, headers={"Range": "bytes=5-9"}).content == BLOB[5:10]
    assert registry.pull.head(LAYER).headers["content-length"] == str(len(BLOB))
    assert len(quay.asked) == asked == 2
    for endpoint in (registry.pull, registry.push):
        assert endpoint.get("/v2/quay.io/org/app/tags/list").json()["tags"] == ["v1"]


def test_parts_of_an_image_whose_manifest_nobody_asked_for(
    start: Callable[..., Registry], quay: Server
) -> None:
    """HEAD and a range of a blob come first with some clients."""
    registry = start()
    head = registry.pull.head(LAYER)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(BLOB)))
    assert [asked.method for asked in quay.asked] == ["HEAD"]
    part = registry.pull.get(LAYER, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, BLOB[100:200])
    assert registry.pull.head(TAG).headers["content-length"] == str(len(MANIFEST))


@only(two_endpoints, why="one port pulls through for pushers, too")
def test_the_push_endpoint_asks_nobody(start: Callable[..., Registry], quay: Server) -> None:
    """What it does not have is not there."""
    registry = start()
    for path in (TAG, LAYER):
        assert registry.push.get(path).status_code == 404
    assert quay.asked == []


def test_a_rate_limit_is_passed_on(start: Callable[..., Registry], quay: Server) -> None:
    """As 429 with Retry-After; other failures as 502; each names the upstream and the reason."""
    registry = start()
    quay.on(V1_PATH, reply(429, Retry_After="120"))
    answer = registry.pull.get(TAG)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "120")
    assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert message(answer).startswith("upstream quay.io limits the rate of requests")
    quay.on(BLOB_PATH, reply(503, Retry_After="60"))
    answer = registry.pull.get(LAYER)
    assert (answer.status_code, answer.headers["retry-after"]) == (502, "60")
    assert message(answer) == f"upstream quay.io ({quay.url}): answers 503"


def test_what_is_cached_is_served_when_upstream_limits(
    start: Callable[..., Registry], quay: Server
) -> None:
    """And logged as stale."""
    registry = start(tag_seconds=0)
    assert registry.pull.get(TAG).content == MANIFEST
    quay.on(V1_PATH, reply(429))
    assert registry.pull.get(TAG).content == MANIFEST
    registry.wait_for_log("quay.io/org/app:v1 is stale, served from the store: upstream quay.io")


def test_a_push_wins_and_its_deletion_uncovers_upstreams(start: Callable[..., Registry]) -> None:
    """By tag, whichever came first."""
    registry = start()
    assert registry.pull.get(TAG).content == MANIFEST
    pushed = registry.push.put(TAG, content=PUSHED, headers={"Content-Type": OCI_INDEX})
    assert pushed.status_code == 201
    assert registry.pull.get(TAG).content == PUSHED
    assert registry.push.delete(TAG).status_code == 202
    assert registry.pull.get(TAG).content == MANIFEST


def test_clients_credentials_are_never_sent_upstream(
    start: Callable[..., Registry], quay: Server
) -> None:
    """Upstream sees its own, if it has any."""
    mine = {"Authorization": "Basic " + base64.b64encode(b"me:mine").decode()}
    registry = start()
    for path in (TAG, LAYER):
        assert registry.pull.get(path, headers=mine).status_code == 200
    assert [asked.authorization for asked in quay.asked] == [None, None]


def test_an_upstream_with_credentials(start: Callable[..., Registry], quay: Server) -> None:
    """They are its own; where everybody may see what they see, that has to be said."""
    quay.on(V1_PATH, guarded(manifest(), BASIC, challenge='Basic realm="quay"'))
    login = {"username": "ci", "password": "secret"}
    registry = start(**login, public=True)
    assert registry.pull.get(TAG).content == MANIFEST
    assert [asked.authorization for asked in quay.asked] == [None, BASIC]
    assert "secret" not in registry.log.read_text()


@pytest.mark.parametrize("namespace", ["127.0.0.1:{port}", "localhost:{port}", "169.254.169.254"])
def test_a_registry_of_the_callers_choice_is_not_asked(
    start: Callable[..., Registry], quay: Server, namespace: str
) -> None:
    """Only what the configuration lists."""
    registry = start()
    namespace = namespace.format(port=quay.port)
    for path in ("/v2/org/app/manifests/v1", f"/v2/org/app/blobs/{BLOB_DIGEST}"):
        assert registry.pull.get(path, params={"ns": namespace}).status_code == 404
    assert quay.asked == []


@only(two_endpoints, why="the endpoint to push to has no upstreams")
def test_what_is_of_no_upstream_is_said_to_be(start: Callable[..., Registry]) -> None:
    """Not only that it is not here: adding the upstream would help. A push endpoint has none."""
    registry = start()
    for path in (
        "/v2/unknown.example/app/manifests/v1",
        f"/v2/app/manifests/{BLOB_DIGEST}?ns=unknown.example",
        f"/v2/unknown.example/app/blobs/{BLOB_DIGEST}",
        "/v2/unknown.example/app/tags/list",
    ):
        answer = registry.pull.get(path)
        assert answer.status_code == 404
        assert message(answer).endswith("; unknown.example is no upstream of this registry")
        assert "upstream" not in message(registry.push.get(path))


def test_a_redirect_to_what_only_the_registry_can_reach(
    start: Callable[..., Registry], quay: Server
) -> None:
    """It is refused, and said why."""
    quay.on(V1_PATH, redirect("https://169.254.169.254/latest/meta-data"))
    answer = start().pull.get(TAG)
    assert answer.status_code == 502
    assert "points to the link-local address 169.254.169.254" in message(answer)


def test_a_transfer_that_breaks_is_resumed_unseen(
    start: Callable[..., Registry], quay: Server
) -> None:
    """The client gets the whole blob."""
    quay.on(BLOB_PATH, breaking(BLOB, 3000), blob())
    assert start().pull.get(LAYER).content == BLOB
    assert [asked.headers.get("Range") for asked in quay.asked] == [None, "bytes=3000-"]


def test_wrong_content_breaks_the_clients_transfer(
    start: Callable[..., Registry], quay: Server
) -> None:
    """It never has the whole of it, and nothing of it stays."""
    quay.on(BLOB_PATH, blob(b"x" * 2**24))
    registry = start()
    with pytest.raises(httpx.RemoteProtocolError):
        registry.pull.get(LAYER)
    registry.wait_for_log("what it sends has another digest")
    assert not [*registry.storage.rglob(BLOB_DIGEST.hex)]
    assert not [*registry.storage.glob("tmp/*")]


def test_wrong_content_that_is_known_in_time_is_told(
    start: Callable[..., Registry], quay: Server
) -> None:
    """Of a small blob nothing has been sent yet: the client gets the reason."""
    quay.on(BLOB_PATH, blob(b"x" * len(BLOB)))
    answer = start().pull.get(LAYER)
    assert answer.status_code == 502
    assert "what it sends has another digest" in message(answer)


def test_a_tag_that_moved_is_seen_where_upstream_refuses_head(
    start: Callable[..., Registry], quay: Server
) -> None:
    """A registry, or a firewall before it, that shows by GET what it refuses by HEAD."""
    registry = start(tag_seconds=0)
    for content in (MANIFEST, PUSHED):
        quay.on(V1_PATH, by_method(HEAD=reply(403), GET=manifest(content)))
        assert registry.pull.get(TAG).content == content


def test_a_manifest_that_comes_packed_is_served_unpacked(
    start: Callable[..., Registry], quay: Server
) -> None:
    """As it is pushed there: its digest is that of these bytes."""
    quay.on(V1_PATH, manifest(gzip.compress(MANIFEST), Content_Encoding="gzip"))
    answer = start().pull.get(TAG)
    assert (answer.status_code, answer.content) == (200, MANIFEST)
    assert answer.headers["docker-content-digest"] == digest_of(MANIFEST)
    assert "content-encoding" not in answer.headers


def test_an_image_that_upstream_has_at_another_registry(
    start: Callable[..., Registry], quay: Server, authority: CA
) -> None:
    """The token that everybody gets there is used, without the credentials of the upstream."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with in_a_thread(context) as other:
        challenge = f'Bearer realm="{other.url}/token",service="other"'
        other.on("/token", reply(200, b'{"token": "everybody"}'))
        for path, answer in ((V1_PATH, manifest()), (BLOB_PATH, blob())):
            there = path.replace("/v2/org/", "/v2/real/")
            quay.on(path, redirect(f"{other.url}{there}"))
            other.on(there, guarded(answer, "Bearer everybody", challenge=challenge))
        registry = start(username="ci", password="secret", public=True)
        assert registry.pull.get(TAG).content == MANIFEST
        assert registry.pull.get(LAYER).content == BLOB
        assert {one.authorization for one in other.asked} == {None, "Bearer everybody"}


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_what_refers_to_an_image_by_a_tag(
    start: Callable[..., Registry], quay: Server, status: int
) -> None:
    """Where upstream refuses the list, in whatever way."""
    digest = digest_of(MANIFEST)
    entry = f'{{"mediaType":"{OCI_INDEX}","digest":"{digest}","size":1,"artifactType":"a/b"}}'
    listed = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}'.encode()
    quay.on(f"/v2/org/app/referrers/{digest}", reply(status))
    quay.on(f"/v2/org/app/manifests/{digest.replace(':', '-')}", manifest(listed))
    (found,) = start().pull.get(f"/v2/quay.io/org/app/referrers/{digest}").json()["manifests"]
    assert found["artifactType"] == "a/b"


@only(two_endpoints, why="one port pulls through for pushers, too")
def test_what_refers_to_an_image(start: Callable[..., Registry], quay: Server) -> None:
    """Upstream's list is passed on."""
    digest = digest_of(MANIFEST)
    entry = f'{{"mediaType":"{OCI_INDEX}","digest":"{digest}","size":1,"artifactType":"a/b"}}'
    listed = f'{{"schemaVersion":2,"manifests":[{entry}]}}'.encode()
    quay.on(f"/v2/org/app/referrers/{digest}", manifest(listed))
    path = f"/v2/quay.io/org/app/referrers/{digest}"
    registry = start()
    (found,) = registry.pull.get(path).json()["manifests"]
    assert found["artifactType"] == "a/b"
    assert registry.push.get(path).json()["manifests"] == []


@pytest.mark.parametrize("size", [18, 30_000])
@pytest.mark.parametrize("asked", ["", "bytes=0-5", "bytes=0-1,3-4"])
def test_a_small_blob_that_is_wrong_is_told(
    start: Callable[..., Registry], quay: Server, size: int, asked: str
) -> None:
    """An error that names it, and no half answer: upstream sends a page instead (harbor#23882)."""
    quay.on(BLOB_PATH, blob(b"<html>" + b"x" * (size - 6)))
    registry = start()
    answer = registry.pull.get(LAYER, headers={"Range": asked} if asked else {})
    assert answer.status_code == 502
    assert "another digest" in answer.json()["errors"][0]["message"]
    registry.wait_for_log(f'{LAYER.partition("?")[0]}" 502')


def on_a_full_disk(harness: Harness, quay: Server, authority: CA) -> Registry:
    """Start a registry of which more has to stay free than any disk has."""
    authority.cert_pem.write_to_path(harness.folder / "ca.pem")
    upstream = {"name": "quay.io", "url": quay.url, "ca": "ca.pem"}
    return harness.start(upstreams=[upstream], limits={"free_bytes": 10**18})


@only(on_disk, why="a registry in memory has no disk")
def test_a_manifest_is_served_where_the_disk_is_full(
    quay: Server, harness: Harness, authority: CA
) -> None:
    """It is not stored then."""
    registry = on_a_full_disk(harness, quay, authority)
    for _ in range(2):
        assert registry.pull.get(TAG).content == MANIFEST
    assert len(quay.at(V1_PATH)) == 2


@only(in_bucket, why="elsewhere the disk is the storage's")
def test_the_disk_of_temporary_files_is_not_filled(
    quay: Server, harness: Harness, authority: CA
) -> None:
    """What is pulled through is in a file there, from which clients read while it arrives."""
    registry = on_a_full_disk(harness, quay, authority)
    answer = registry.pull.get(LAYER)
    assert answer.status_code == 507
    assert "limits.free_bytes" in message(answer) and "TMPDIR" in message(answer)
    assert registry.pull.get(TAG).content == MANIFEST
    registry.push_blob("org/app", b"small")


def test_clients_that_leave_at_once_start_a_few_fetches(
    start: Callable[..., Registry], quay: Server, harness: Harness
) -> None:
    """Another client is served meanwhile, and who left while it waited fetches nothing later."""
    go = threading.Event()
    contents, registry = stalling(quay, go), start(limits={"fetches": 4})

    def fetched() -> list[str]:
        return [asked.path for asked in quay.asked if asked.path in contents]

    with ExitStack() as leaving:
        for path in contents:
            sock = leaving.enter_context(raw(registry.pull))
            asked = path.replace("/v2/", "/v2/quay.io/")
            sock.sendall(f"GET {asked} HTTP/1.1\r\nHost: registry\r\n\r\n".encode())
        wait_until(lambda: len(fetched()) >= 3)
        time.sleep(0.1)
    begun = fetched()
    assert len(begun) == 3
    assert get_from_elsewhere(registry, harness, LAYER).content == BLOB
    wait_until(lambda: registry.log.read_text().count('" 499 ') == 9)
    go.set()
    later = [begun[0], *(contents.keys() - begun)][:2]
    for path in later:
        assert registry.pull.get(path.replace("/v2/", "/v2/quay.io/")).content == contents[path]
    time.sleep(0.1)
    assert fetched() == [*begun, later[1]]


@only(single_port, why="an endpoint that takes pushes alone asks no upstream")
def test_who_pushes_what_is_at_upstream_leaves_places_to_others(
    start: Callable[..., Registry], quay: Server, harness: Harness
) -> None:
    """What a manifest names and is not here is fetched, by three quarters of the places at most."""
    go = threading.Event()
    contents, registry = stalling(quay, go), start(limits={"fetches": 4})

    def fetched() -> int:
        return sum(asked.path in contents for asked in quay.asked)

    blobs = [
        {"mediaType": OCTETS, "digest": digest_of(one), "size": len(one)}
        for one in contents.values()
    ]
    tree = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blobs[0], "layers": blobs}
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(go.set)
        raw_manifest = json.dumps(tree).encode()
        pushed = pool.submit(registry.put_manifest, "quay.io/org/app", "v2", raw_manifest)
        wait_until(lambda: fetched() >= 3)
        time.sleep(0.1)
        assert fetched() == 3
        assert get_from_elsewhere(registry, harness, LAYER).content == BLOB
        go.set()
        assert pushed.result().status_code == 201


def leave_behind(registry: Registry, path: str, begun: Callable[[], object]) -> None:
    """Ask for what an upstream has, and leave once the request has begun."""
    with raw(registry.pull) as sock:
        asked = path.replace("/v2/", "/v2/quay.io/")
        sock.sendall(f"GET {asked} HTTP/1.1\r\nHost: registry\r\n\r\n".encode())
        wait_until(begun, path)


def test_who_leaves_at_once_has_no_more_under_way_than_it_may_hold(
    start: Callable[..., Registry], quay: Server, harness: Harness
) -> None:
    """What a client asked for goes on without it; health and others are answered meanwhile."""
    go = threading.Event()
    paths = [f"/v2/org/app/manifests/t{number}" for number in range(12)]
    for path in paths:
        quay.on(path, waiting_for(go, manifest()))
    registry = start(limits={"client_connections": 6})
    with ExitStack() as stack:
        stack.callback(go.set)
        for path in paths:
            leave_behind(registry, path, partial(quay.at, path))
        refused = registry.pull.get(TAG)
        assert refused.status_code == 429
        assert "12 requests of 127.0.0.1 are under way" in message(refused)
        assert registry.pull.get("/healthz").status_code == 200
        assert get_from_elsewhere(registry, harness, TAG).content == MANIFEST
        go.set()
        wait_until(lambda: registry.pull.get(TAG).status_code == 200)


@only(once, why="stores have no part in it")
def test_all_that_clients_leave_behind_is_no_more_than_there_are_descriptors_for(
    start: Callable[..., Registry], quay: Server, harness: Harness
) -> None:
    """Each waits with a connection to the upstream; who has fewer than others goes on."""
    go = threading.Event()
    paths = [f"/v2/org/app/manifests/t{number}" for number in range(30)]
    for path in paths:
        quay.on(path, waiting_for(go, manifest()))
    registry = start(limits={"connections": 8})

    def asked(path: str) -> bool:
        return bool(quay.at(path)) or f'{path[3:]}" 429 ' in registry.log.read_text()

    with ExitStack() as stack:
        stack.callback(go.set)
        for path in paths:
            leave_behind(registry, path, partial(asked, path))
        assert sum(bool(quay.at(path)) for path in paths) <= 8 * 2 + 8
        refused = registry.pull.get(TAG)
        assert refused.status_code == 429
        assert "requests are under way (limits.connections)" in message(refused)
        assert get_from_elsewhere(registry, harness, TAG).content == MANIFEST
        go.set()
        wait_until(lambda: registry.pull.get(TAG).status_code == 200)
