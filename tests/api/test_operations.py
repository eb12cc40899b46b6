# SPDX-License-Identifier: Apache-2.0
"""Operating a registry: metrics, health, logs, limits, read-only, and the end of the process."""

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from base64 import b64encode

import httpx
import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.oci.descriptor import OCI_INDEX

from tests.api.configurations import on_disk, once, only, two_endpoints
from tests.api.harness import PASSWORD, USER, Harness, Registry, code, digest_of, raw
from tests.ports import free_port
from tests.waiting import wait_until

CONTENT = b"content" * 100
DIGEST = digest_of(CONTENT)
BLOB = f"/v2/org/app/blobs/{DIGEST}"
UPLOADS = "/v2/org/app/blobs/uploads/"
SAMPLE = re.compile(r'buildset_registry_\w+(\{(\w+="[^"]*"(,\w+="[^"]*")*)\})? -?[0-9.e+]+')


def begin_upload(connection: socket.socket, registry: Registry, sent: bytes, length: int) -> str:
    """Announce ``length`` bytes of an upload and send the first of them; return its address."""
    location = registry.push.post(UPLOADS).headers["location"]
    login = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    head = (
        f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return location


@only(two_endpoints, on_disk, why="it counts by endpoint, and what the files hold")
def test_metrics_count_what_was_served(harness: Harness) -> None:
    """Prometheus' text: what was served, by endpoint, route, method and status; and the store."""
    port = free_port()
    registry = harness.start(metrics={"port": port})
    registry.push_image("org/app", "v1")
    assert registry.pull.get("/v2/org/app/manifests/v1").is_success
    assert registry.pull.request("BREW", "/coffee").status_code == 404
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
    for expected in (
        'requests_total{endpoint="pull",route="end-3",method="GET",status="200"} 1',
        'requests_total{endpoint="pull",route="none",method="other",status="404"} 1',
        'requests_total{endpoint="push",route="end-7",method="PUT",status="201"} 1',
        'request_seconds_count{endpoint="push",route="end-6",method="PUT"} 2',
        'request_seconds_bucket{endpoint="push",route="end-6",method="PUT",le="+Inf"} 2',
        'cache_hits_total{kind="blob"} 0',
        "uploads_running 0",
        'info{version="',
        "storage_free_bytes ",
        "process_resident_bytes ",
    ):
        assert any(line.startswith(f"buildset_registry_{expected}") for line in samples), expected
    (used,) = [line for line in samples if line.startswith("buildset_registry_storage_used_bytes")]
    stored = sum(path.stat().st_size for path in registry.storage.rglob("blobs/**/data"))
    assert used.endswith(f" {stored}")
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    named = {re.split(r"[ {]", line)[0] for line in samples}
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    assert bare <= described


def test_the_listener_for_operators_serves_nothing_else(harness: Harness) -> None:
    """No images; it is on the loopback address where nothing else is said."""
    port = free_port()
    harness.start(metrics={"port": port})
    assert httpx.get(f"http://127.0.0.1:{port}/v2/").status_code == 404
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"http://127.0.0.1:{port}{path}").json() == {"status": "ok"}


def test_every_endpoint_tells_its_health(registry: Registry) -> None:
    """Every endpoint tells, without a login, whether it lives and whether it can store."""
    for client in (registry.pull, registry.anonymous):
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok"}


@only(on_disk, why="memory can always be written")
def test_a_storage_that_cannot_be_written_is_told(registry: Registry) -> None:
    """The registry lives, and is not ready until it can store again."""
    (registry.storage / "tmp").rename(registry.storage / "away")
    answer = registry.anonymous.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"].startswith("the storage cannot be written")
    assert registry.anonymous.get("/healthz").status_code == 200
    (registry.storage / "away").rename(registry.storage / "tmp")
    assert registry.anonymous.get("/readyz").status_code == 200


def test_the_log_as_json(harness: Harness) -> None:
    """Requests and messages, an object a line."""
    registry = harness.start(log={"format": "json"})
    registry.push_blob("org/app", CONTENT)
    registry.pull.get(BLOB, headers={"User-Agent": 'a "quoted" agent'})
    registry.stop()
    lines = [json.loads(line) for line in registry.log.read_text().splitlines()]
    (got,) = [line for line in lines if line.get("path") == BLOB and line["method"] == "GET"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", got.pop("time"))
    assert got.pop("seconds") > 0
    assert got == {
        "client": "127.0.0.1",
        "user": None,
        "method": "GET",
        "path": BLOB,
        "registry": None,
        "route": "end-2",
        "status": 200,
        "received": 0,
        "sent": len(CONTENT),
        "agent": 'a "quoted" agent',
    }
    put = next(line for line in lines if line.get("route") == "end-6")
    assert (put["user"], put["received"]) == (USER, len(CONTENT))
    assert any(line.get("message", "").startswith("buildset-registry ") for line in lines)


@only(on_disk, why="it starts again on what was stored")
def test_a_read_only_registry_refuses_every_write(harness: Harness) -> None:
    """What is there is served; every write is refused with one clear line, and nothing is lost."""
    registry = harness.start()
    digest = registry.push_image("org/app", "v1")
    location = registry.push.post(UPLOADS).headers["location"]
    registry.stop()
    registry = harness.start(read_only=True)
    assert registry.pull.get("/v2/org/app/manifests/v1").is_success
    for method, path in [
        ("POST", UPLOADS),
        ("PATCH", location),
        ("PUT", "/v2/org/app/manifests/v2"),
        ("DELETE", f"/v2/org/app/manifests/{digest}"),
    ]:
        answer = registry.push.request(method, path, content=b"")
        assert (answer.status_code, code(answer)) == (405, "UNSUPPORTED")
        assert "read-only for now (read_only" in answer.text


def test_too_many_uploads_at_once(harness: Harness) -> None:
    """429 with Retry-After for one more; a place is free when another one ends."""
    port = free_port()
    registry = harness.start(limits={"uploads": 1}, metrics={"port": port})
    registry.push_blob("org/other", CONTENT)
    with raw(registry.push) as slow:
        begin_upload(slow, registry, b"x" * 10, 20)
        # Only then is it the other one that is refused.
        running = "buildset_registry_uploads_running 1\n"
        wait_until(lambda: running in httpx.get(f"http://127.0.0.1:{port}/metrics").text)

        def push() -> httpx.Response:
            answer: httpx.Response = registry.push.post(
                f"{UPLOADS}?digest={DIGEST}", content=CONTENT
            )
            return answer

        refused = push()
        assert (code(refused), refused.headers["retry-after"]) == ("TOOMANYREQUESTS", "1")
        assert "limits.uploads" in refused.text
        assert registry.pull.get(BLOB.replace("app", "other")).content == CONTENT
        slow.sendall(b"x" * 10)
        assert slow.recv(1000).startswith(b"HTTP/1.1 202")
    assert push().status_code == 201


def test_one_client_does_not_take_all_uploads(harness: Harness) -> None:
    """It is refused before the others are."""
    port = free_port()
    registry = harness.start(limits={"uploads": 2}, metrics={"port": port})
    with raw(registry.push) as slow:
        begin_upload(slow, registry, b"x" * 10, 20)
        running = "buildset_registry_uploads_running 1\n"
        wait_until(lambda: running in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        refused = registry.push.post(f"{UPLOADS}?digest={DIGEST}", content=CONTENT)
        assert code(refused) == "TOOMANYREQUESTS"
        told = f"1 uploads are running, as many as limits.uploads allows to one client, {USER} at "
        assert told in refused.text


@only(once, why="it sends 50 MB, within a bound that no configuration changes")
def test_manifests_that_do_not_end_have_a_bound(registry: Registry) -> None:
    """429 for those of one client that are too much together; a small one is taken all along."""
    size, login = 4 * 1024 * 1024, b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    head = (
        "PUT /v2/org/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Basic {login}\r\nContent-Length: {size}\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(raw(registry.push)) for _number in range(13)]
        for connection in slow:
            connection.sendall(head.encode() + bytes(size - 1))
            connection.settimeout(0.01)
        answers: list[bytes] = []

        def answered() -> bool:
            answers.extend(map(received, slow))
            return any(answers)

        wait_until(answered, "no manifest is refused")
        answer = b"".join(answers)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 1\r\n" in answer.lower()
        assert f"from one client, {USER} at 127.0.0.1, as much as there is".encode() in answer
        registry.push_image("org/app", "v2")
    registry.push_image("org/app", "v3")


def received(connection: socket.socket) -> bytes:
    """Return what has come, if anything has."""
    try:
        return connection.recv(4000)
    except (TimeoutError, ssl.SSLWantReadError):
        return b""


def test_a_client_that_sends_nothing_is_cut(harness: Harness) -> None:
    """408; the upload goes on from where it was."""
    registry = harness.start(limits={"body_seconds": 1})
    with raw(registry.push) as slow:
        location = begin_upload(slow, registry, CONTENT[:10], len(CONTENT))
        answer = slow.recv(4000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"limits.body_seconds" in answer
    assert registry.push.get(location).headers["range"] == "0-9"

    def ended() -> bool:
        """Send the rest; where the machine rests that long, this is cut, too."""
        done = registry.push.put(f"{location}?digest={DIGEST}", content=CONTENT[10:])
        assert done.status_code in (201, 408)
        return done.status_code == 201

    wait_until(ended, "the upload goes on")


@only(once, why="it takes seconds, by a limit that no configuration changes")
def test_a_client_that_is_slow_but_sends_is_not_cut(harness: Harness) -> None:
    """The limit is on silence, not on the whole."""
    registry = harness.start(limits={"body_seconds": 4})
    with raw(registry.push) as slow:
        begin_upload(slow, registry, b"x", 6)
        for _ in range(5):
            time.sleep(1)
            slow.sendall(b"x")
        assert slow.recv(1000).startswith(b"HTTP/1.1 202")


def test_clients_that_trickle_do_not_stop_others(registry: Registry) -> None:
    """A hundred half heads, half bodies and connections that say nothing at all."""
    with contextlib.ExitStack() as stack:
        for number in range(100):
            connection = stack.enter_context(raw(registry.push))
            if number % 3 == 0:
                connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: loc")
            elif number % 3 == 1:
                begin_upload(connection, registry, b"x", 1000)
        assert registry.push_blob("org/app", CONTENT) == DIGEST
        assert registry.pull.get(BLOB).content == CONTENT


@only(on_disk, why="memory has no disk")
def test_the_disk_is_not_filled(harness: Harness) -> None:
    """507 before it is full, in words that say what to do; what is there is served."""
    registry = harness.start()
    registry.push_blob("org/app", CONTENT)
    registry.stop()
    registry = harness.start(limits={"free_bytes": 10**18})
    answer = registry.push.post(UPLOADS)
    assert (answer.status_code, code(answer)) == (507, "UNKNOWN")
    assert "limits.free_bytes" in answer.text
    assert registry.pull.get(BLOB).content == CONTENT
    assert registry.pull.get("/readyz").json() == {"status": "the disk is full"}
    answer = registry.put_manifest("org/app", "v1", b'{"manifests": []}', OCI_INDEX)
    assert (answer.status_code, code(answer)) == (507, "UNKNOWN")


@only(on_disk, why="memory has no disk")
def test_the_disk_is_not_filled_by_an_upload_that_runs(harness: Harness) -> None:
    """The floor counts for each piece of a body, too."""
    registry = harness.start()
    upload = registry.push.post(UPLOADS).headers["location"]
    registry.stop()
    registry = harness.start(limits={"free_bytes": 10**18})
    answer = registry.push.patch(upload, content=CONTENT)
    assert (answer.status_code, code(answer)) == (507, "UNKNOWN")


def test_running_requests_end_before_the_process(harness: Harness) -> None:
    """A pull that is under way when SIGTERM comes arrives whole."""
    registry = harness.start()
    content = bytes(range(256)) * 4096 * 32
    path = f"/v2/org/app/blobs/{registry.push_blob('org/app', content)}"
    with registry.pull.stream("GET", path, headers={"Range": "bytes=0-"}) as answer:
        pieces = answer.iter_raw(65536)
        got = [next(pieces)]
        ending = threading.Thread(target=registry.stop)
        ending.start()
        registry.wait_for_log("running requests are finished first")
        got += pieces
    ending.join()
    assert b"".join(got) == content
    with pytest.raises(httpx.ConnectError):
        harness.client(registry.pull.base_url.port, registry.pull.base_url.scheme).get("/v2/")


def test_the_end_waits_for_a_bounded_time(harness: Harness) -> None:
    """A client that never ends its upload does not keep the process."""
    port, running = free_port(), "buildset_registry_uploads_running 1\n"
    registry = harness.start(
        metrics={"port": port}, limits={"shutdown_seconds": 1, "body_seconds": 0}
    )
    with raw(registry.push) as slow:
        begin_upload(slow, registry, b"x", 1000)
        wait_until(lambda: running in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        registry.stop()
        assert "requests still run after 1 seconds" in registry.log.read_text()


def test_a_mistake_in_the_limits_is_one_line(harness: Harness) -> None:
    """No limit is below zero."""
    with pytest.raises(ConfigError, match=r"limits\.uploads must be a number, 0 or more, not -1"):
        harness.start(limits={"uploads": -1})
