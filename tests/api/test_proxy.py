# SPDX-License-Identifier: Apache-2.0
"""The proxy for docker: the registry in the place of others, and who may use it for what."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.api.configurations import once, only
from tests.api.harness import Harness
from tests.api.proxy import NAME, basic, start

pytestmark = only(once, why="the proxy is a listener of its own, whatever else there is")

MANIFEST = f"https://{NAME}/v2/org/app/manifests/v1"


def test_the_registry_answers_for_another_one(harness: Harness) -> None:
    """What was pushed under that registry's name is what its name gives; the log knows the user."""
    proxied = start(harness)
    digest = proxied.registry.push_image(f"{NAME}/org/app", "v1")
    with proxied.client() as client:
        assert client.get(f"https://{NAME}/v2/").status_code == 200
        answer = client.get(MANIFEST)
        assert answer.headers["docker-content-digest"] == digest
        layer = answer.json()["layers"][0]["digest"]
        assert client.get(f"https://{NAME}/v2/org/app/blobs/{layer}").status_code == 200
        assert client.get(f"https://{NAME}/v2/other/app/manifests/v1").status_code == 404
    proxied.registry.wait_for_log(f"CONNECT {NAME}:443")
    proxied.registry.wait_for_log(f'"GET /v2/org/app/manifests/v1?ns={NAME}" 200 ')
    assert "127.0.0.1 buildset [" in proxied.registry.log.read_text()


def test_a_registry_with_a_port(harness: Harness) -> None:
    """The port is a part of the registry's name."""
    proxied = start(harness, f"{NAME}:5000")
    digest = proxied.registry.push_image(f"{NAME}__5000/org/app", "v1")
    with proxied.client() as client:
        answer = client.get(f"https://{NAME}:5000/v2/org/app/manifests/v1")
    assert answer.headers["docker-content-digest"] == digest
    assert proxied.refused(f"{NAME}:443", basic())[0] == 502


def test_docker_hub_where_it_is_listed(harness: Harness) -> None:
    """docker asks another host for its images than the one that names them."""
    proxied = start(harness, "docker.io", certified=["registry-1.docker.io"])
    digest = proxied.registry.push_image("tool", "v1")
    with proxied.client() as client:
        answer = client.get("https://registry-1.docker.io/v2/library/tool/manifests/v1")
    assert answer.headers["docker-content-digest"] == digest


def test_credentials_for_the_other_registry_are_of_no_interest(harness: Harness) -> None:
    """docker sends what it has for that registry; who was let in pulls, anonymously or not."""
    proxied = start(harness, auth={"anonymous_pull": False})
    proxied.registry.push_image(f"{NAME}/org/app", "v1")
    with proxied.client() as client:
        for header in ({}, {"Authorization": basic("robot", "of quay.io")}):
            assert client.get(f"https://{NAME}/v2/", headers=header).status_code == 200
            assert client.get(MANIFEST, headers=header).status_code == 200


def test_pushing_through_it_is_refused(harness: Harness) -> None:
    """Nobody shall believe that an image is published which is not."""
    proxied = start(harness)
    with proxied.client() as client:
        answer = client.post(f"https://{NAME}/v2/org/app/blobs/uploads/")
    assert answer.status_code == 405
    assert "push to port" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "credentials", [None, basic(password="wrong"), basic("nobody"), "Bearer x", "Basic é"]
)
def test_who_is_not_known_gets_407(harness: Harness, credentials: str | None) -> None:
    """For a registry of ours and for any other host, anonymous pulling or not."""
    proxied = start(harness)
    for target in (f"{NAME}:443", "other.example:443"):
        with proxied.asked(target, credentials) as (answer, _connection):
            assert answer.status == 407
            assert answer.headers["Proxy-Authenticate"] == 'Basic realm="buildset-registry"'


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("127.0.0.1:443", 403, "this host's alone"),
        ("localhost:443", 403, "this host's alone"),
        ("[::1]:443", 403, "this host's alone"),
        ("0.0.0.0:443", 403, "this host's alone"),
        ("2130706433:443", 403, "this host's alone"),
        ("[::ffff:127.0.0.1]:443", 403, "this host's alone"),
        ("169.254.169.254:443", 403, "this host's alone"),
        ("registry.invalid:443", 502, "cannot find the address of registry.invalid"),
        ("other.example:22", 403, "proxy.ports"),
        ("other.example", 400, "a host and a port"),
        ("https://other.example/", 400, "a host and a port"),
        ("other.example:0", 400, "a host and a port"),
    ],
)
def test_where_no_tunnel_leads(harness: Harness, target: str, status: int, reason: str) -> None:
    """To this host's own services, to other ports, to nowhere: one line says why."""
    refused = start(harness).refused(target, basic())
    assert refused[0] == status
    assert reason in refused[1]


def test_clients_of_other_networks_are_refused(harness: Harness) -> None:
    """As at the other endpoints, before any password is looked at."""
    proxied = start(harness, auth={"allowed_networks": ["192.0.2.0/24"]})
    status, reason = proxied.refused(f"{NAME}:443", basic())
    assert (status, "allowed_networks" in reason) == (403, True)


def test_what_is_not_connect_is_told_so(harness: Harness) -> None:
    """A browser, or ``http_proxy`` set to it."""
    proxied = start(harness)
    answer = proxied.registry.pull.get(f"https://127.0.0.1:{proxied.port}/v2/")
    assert answer.status_code == 405
    assert "CONNECT" in answer.text


def test_more_tunnels_than_there_may_be(harness: Harness) -> None:
    """The one too many is told to come again; a place that becomes free is given away."""
    proxied = start(harness, proxy={"tunnels": 1})
    target = f"{NAME}:443"
    with proxied.asked(target, basic()) as (first, _connection):
        assert first.status == 200
        assert proxied.refused(target, basic())[0] == 503
    proxied.registry.wait_for_log(f'"CONNECT {target}" 200 ')
    with proxied.asked(target, basic()) as (second, _connection):
        assert second.status == 200


def test_a_tunnel_that_nobody_uses_ends(harness: Harness) -> None:
    """After the seconds of the configuration."""
    proxied = start(harness, proxy={"idle_seconds": 1})
    with proxied.asked(f"{NAME}:443", basic()) as (_answer, connection):
        assert connection.recv(1) == b""


def test_the_end_of_the_server_ends_tunnels(harness: Harness) -> None:
    """One that nobody uses does not delay it."""
    proxied = start(harness)
    with proxied.asked(f"{NAME}:443", basic()) as (_answer, connection):
        proxied.registry.stop()
        assert connection.recv(1) == b""


class OtherProxy(BaseHTTPRequestHandler):
    """A proxy that writes down what it is asked for."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    via = ""

    def do_CONNECT(self) -> None:
        type(self).via = self.headers["Via"]
        self.asked.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(200 if "good" in self.path else 403)
        self.end_headers()
        if "good" in self.path:
            self.wfile.write(b"hello from there")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_tunnels_go_through_the_proxy_of_the_host(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its credentials; what it refuses is told as its refusal; never around in a circle."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OtherProxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{server.server_port}")
    try:
        proxied = start(harness)
        with proxied.asked("good.example:443", basic()) as (answer, connection):
            assert answer.status == 200
            assert connection.recv(100) == b"hello from there"
        assert proxied.refused("bad.example:443", basic()) == (
            502,
            "the proxy 127.0.0.1 (HTTPS_PROXY) answers 403 for bad.example:443",
        )
        assert proxied.refused("good.example:443", basic(), f"Via: {OtherProxy.via}")[0] == 508
        assert OtherProxy.asked == [
            ("good.example:443", basic("me", "p@ss")),
            ("bad.example:443", basic("me", "p@ss")),
        ]
        assert proxied.refused("169.254.169.254:443", basic())[0] == 403
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
