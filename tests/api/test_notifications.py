# SPDX-License-Identifier: Apache-2.0
"""What a receiver of notifications hears of pushes, pulls, mounts and deletes."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST

from tests.api.configurations import once, only
from tests.api.harness import USER, Harness, Registry, digest_of
from tests.ports import free_port
from tests.waiting import wait_until

CONTENT = b"content"
Event = dict[str, Any]
Told = tuple[Registry, list[Event]]
DIGEST = digest_of(CONTENT)


@contextlib.contextmanager
def receiving(status: int = 200) -> Iterator[tuple[str, list[Event]]]:
    """Serve a receiver; yields its URL and the list of the events that it got."""
    events: list[Event] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if status < 400:
                events.extend(body["events"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/events", events
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def told(harness: Harness) -> Iterator[Told]:
    """A registry that notifies, and the events."""
    with receiving() as (url, events):
        yield harness.start(notifications=[{"name": "ci", "url": url}]), events


def wait_for(events: list[Event], number: int) -> Event:
    wait_until(lambda: len(events) >= number, f"{number} events")
    assert len(events) == number
    return events[-1]


def test_a_push_of_an_image(told: Told) -> None:
    """The blobs, then the manifest with its tag."""
    registry, events = told
    digest = registry.push_image("org/app", "v1")
    manifest = wait_for(events, 3)
    assert manifest["action"] == "push"
    assert manifest["actor"] == {"name": USER}
    target = manifest["target"]
    assert target["mediaType"] == OCI_MANIFEST
    assert (target["repository"], target["tag"], target["digest"]) == ("org/app", "v1", digest)
    assert target["url"] == registry.push.base_url.join(f"/v2/org/app/manifests/{digest}")
    assert target["size"] == target["length"] > 100
    blob = events[0]["target"]
    assert blob["mediaType"] == "application/octet-stream"
    assert blob["size"] > 0
    assert "tag" not in blob


def test_pulls_of_manifests_and_blobs_are_told(told: Told) -> None:
    """Of manifests and of blobs; asking whether they are there is none."""
    registry, events = told
    registry.push_blob("org/app", CONTENT)
    registry.pull.head(f"/v2/org/app/blobs/{DIGEST}")
    registry.pull.get("/v2/org/app/manifests/none")
    registry.pull.get(f"/v2/org/app/blobs/{DIGEST}", headers={"User-Agent": "a tool"})
    pulled = wait_for(events, 2)
    assert pulled["action"] == "pull"
    assert (pulled["target"]["digest"], pulled["target"]["size"]) == (DIGEST, len(CONTENT))
    assert pulled["actor"] == {}
    assert pulled["request"]["method"] == "GET"
    assert pulled["request"]["useragent"] == "a tool"
    assert pulled["request"]["addr"] == "127.0.0.1"


def test_mounts_and_deletes(told: Told) -> None:
    """A mount says from where, a delete says what."""
    registry, events = told
    digest = registry.push_image("org/app", "v1")
    wait_for(events, 3)
    registry.push_blob("org/app", CONTENT)
    wait_for(events, 4)
    mounted = registry.push.post(
        "/v2/org/other/blobs/uploads/", params={"mount": DIGEST, "from": "org/app"}
    )
    assert mounted.status_code == 201
    event = wait_for(events, 5)
    assert event["action"] == "mount"
    assert event["target"]["fromRepository"] == "org/app"
    assert (event["target"]["repository"], event["target"]["size"]) == ("org/other", len(CONTENT))
    registry.push.delete("/v2/org/app/manifests/v1")
    assert wait_for(events, 6)["target"] == {"repository": "org/app", "tag": "v1"}
    registry.push.delete(f"/v2/org/app/manifests/{digest}")
    assert wait_for(events, 7)["target"] == {"repository": "org/app", "digest": digest}
    registry.push.delete(f"/v2/org/app/blobs/{DIGEST}")
    assert wait_for(events, 8)["action"] == "delete"


@pytest.mark.parametrize("sent", [f"{OCI_MANIFEST}; charset=utf-8", "application/json", ""])
def test_a_manifests_type_is_its_own(told: Told, sent: str) -> None:
    """Whatever the header of the push says."""
    registry, events = told
    raw = registry.image("org/app")
    assert registry.put_manifest("org/app", "v1", raw, sent).status_code == 201
    assert wait_for(events, 3)["target"]["mediaType"] == OCI_MANIFEST


def test_each_tag_of_a_push_is_told(told: Told) -> None:
    """Those of the query as the one of the path."""
    registry, events = told
    raw = registry.image("org/app")
    for number, reference in ((2, "v1"), (5, digest_of(raw))):
        path = f"/v2/org/app/manifests/{reference}?tag=y&tag=z&tag=y"
        answer = registry.push.put(path, content=raw, headers={"Content-Type": OCI_MANIFEST})
        assert answer.status_code == 201
        tags = ["v1", "y", "z"] if reference == "v1" else ["y", "z"]
        wait_for(events, number + len(tags))
        assert [one["target"]["tag"] for one in events[number:]] == tags
        assert {one["target"]["digest"] for one in events[number:]} == {digest_of(raw)}


@pytest.mark.parametrize("query", [{"from": "org/none"}, {"from": ""}, {"digest": DIGEST}])
def test_a_mount_that_became_an_upload_is_a_push(told: Told, query: dict[str, str]) -> None:
    """It says from where nothing came."""
    registry, events = told
    where = "/v2/org/app/blobs/uploads/"
    query = {"mount": DIGEST, "from": "org/none", **query}
    started = registry.push.post(where, params=query, content=CONTENT if "digest" in query else b"")
    if started.status_code == 202:
        location = started.headers["location"]
        started = registry.push.put(location, params={"digest": DIGEST}, content=CONTENT)
    assert started.status_code == 201
    event = wait_for(events, 1)
    assert event["action"] == "push"
    assert "fromRepository" not in event["target"]


def test_a_registry_that_a_request_names_is_in_its_event(told: Told) -> None:
    """Repositories are named in one way, and the address leads to what was pushed."""
    registry, events = told
    query = {"ns": "Quay.io:443"}
    manifest = registry.push.put(
        "/v2/org/app/manifests/v1", params=query, content=b"{}", headers={"Content-Type": "a/b"}
    )
    assert manifest.status_code == 201
    target = wait_for(events, 1)["target"]
    assert target["repository"] == "quay.io/org/app"
    assert registry.push.get(target["url"]).content == b"{}"
    wait_for(events, 2)
    registry.push_blob("quay.io/org/app", CONTENT)
    wait_for(events, 3)
    mounted = registry.push.post(
        "/v2/org/other/blobs/uploads/", params={**query, "mount": DIGEST, "from": "org/app"}
    )
    assert mounted.status_code == 201
    target = wait_for(events, 4)["target"]
    assert (target["repository"], target["fromRepository"]) == (
        "quay.io/org/other",
        "quay.io/org/app",
    )


@only(once, why="it takes seconds, by a sender that no configuration changes")
def test_a_receiver_that_fails_keeps_no_push_waiting(harness: Harness) -> None:
    """The push is acknowledged as if there were no receiver; the metrics tell."""
    port = free_port()
    with receiving(status=500) as (url, _events):
        webhook = {"name": "ci", "url": url, "retry_seconds": 60, "headers": {"X-Key": "secret"}}
        registry = harness.start(notifications=[webhook], metrics={"port": port})
        registry.push_image("org/app", "v1")
        registry.wait_for_log("notification to ci failed: it answers 500; again in 60 s")
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'buildset_registry_notifications_failed_total{receiver="ci"} 1' in text
        assert 'buildset_registry_notifications_waiting{receiver="ci"} 3' in text
        registry.stop()
    log = registry.log.read_text()
    assert "3 notifications to ci are lost" in log
    assert "secret" not in log


def test_what_is_ignored(harness: Harness) -> None:
    """Per receiver."""
    with receiving() as (url, events):
        registry = harness.start(
            notifications=[
                {
                    "name": "ci",
                    "url": url,
                    "ignore_actions": ["pull"],
                    "ignore_media_types": ["application/octet-stream"],
                }
            ]
        )
        registry.push_image("org/app", "v1")
        registry.pull.get("/v2/org/app/manifests/v1")
        registry.push.delete("/v2/org/app/manifests/v1")
        wait_for(events, 2)
    assert [event["action"] for event in events] == ["push", "delete"]
