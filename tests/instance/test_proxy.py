# SPDX-License-Identifier: Apache-2.0
"""``up --proxy-port``: the proxy for docker, and its certificate for other registries."""

import json
import socket
import ssl

from tests.instance.conftest import Desk
from tests.ports import free_port


def upstreams(*names: str) -> str:
    """Return what ``--upstreams-file`` reads."""
    return json.dumps([{"name": name, "url": f"https://{name}"} for name in names])


def test_the_proxy_is_there_when_asked_for_and_gone_when_not(desk: Desk) -> None:
    """The facts have its port; what it showed once stays, so that nodes need no new certificate."""
    port = free_port()
    told = upstreams("docker.io", "quay.io", "registry.example:5000")
    options = ["--upstreams-file", "-"]
    plain = desk.up(*options, stdin=told)
    assert "proxy_port" not in plain["facts"]
    report = desk.up("--proxy-port", port)
    assert report["facts"]["proxy_port"] == port
    assert report["changes"] == ["certificate", "configuration", "restarted"]
    assert names(desk) == {"quay.io", "registry.example"}
    connects(port, report["facts"]["cert"])
    assert f"proxy   https://127.0.0.1:{port}" in desk.run("up").stdout
    assert desk.up()["changes"] == []
    assert desk.status()["facts"]["proxy_port"] == port
    off = desk.up("--no-proxy")
    assert off["changes"] == ["configuration", "restarted"]
    assert "proxy_port" not in off["facts"]
    again = desk.up("--proxy-port", port)
    assert again["changes"] == ["configuration", "restarted"]
    more = desk.up(*options, stdin=upstreams("docker.io", "ghcr.io"))
    assert more["changes"] == ["certificate", "configuration", "restarted"]
    assert names(desk) == {"ghcr.io"}


def test_a_port_that_an_endpoint_has_is_refused(desk: Desk) -> None:
    """The line says which option to change."""
    told = ["--host", "127.0.0.1", "--port", desk.ports[0], "--push-port", desk.ports[1]]
    line = desk.refused("up", *told, "--proxy-port", desk.ports[1])
    assert "another --proxy-port" in line


def names(desk: Desk) -> set[str]:
    """Return what the proxy's certificate is good for."""
    from cryptography import x509

    leaf = x509.load_pem_x509_certificates((desk.root / "proxy.pem").read_bytes())[0]
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def connects(port: int, certificate: str) -> None:
    """Check that the proxy is there, behind the registry's own certificate."""
    context = ssl.create_default_context(cadata=certificate)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"CONNECT quay.io:443 HTTP/1.1\r\n\r\n")
        assert secure.recv(100).startswith(b"HTTP/1.1 407 ")
