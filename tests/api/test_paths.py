# SPDX-License-Identifier: Apache-2.0
"""Tricks with paths, written byte by byte to the socket: none reaches a file outside the store."""

import http.client
import os
import ssl
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.api.harness import PASSWORD, USER, Harness, Registry, digest_of, raw

LOGIN = b"Authorization: Basic " + b64encode(f"{USER}:{PASSWORD}".encode())
DIGEST = digest_of(b"content")
UUID = "00000000-0000-0000-0000-000000000000"

#: What stands for a repository, a tag, a digest, an upload.
TRICKS = [
    "..",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/secret",
    "..%252f..%252fsecret",
    "..\\..\\secret",
    "..%5c..%5csecret",
    "a/../../secret",
    "/secret",
    "//secret",
    "a//b",
    "a%2f%2fb",
    "./a",
    "%00",
    "a%00b",
    "a%0d%0aX-Injected:%20yes",
    "_upstream/x",
    "a/_manifests/revisions",
    "_uploads/x",
    "a" * 300,
    "a/" * 200 + "a",
    "%c0%ae%c0%ae/secret",
    "%ff%fe",
    "\u2025/secret".encode().decode("latin-1"),
    "sha256:../../../../secret",
    f"sha256:{'A' * 64}",
    f"{DIGEST}/../../secret",
    f"{DIGEST}%00",
]

PLACES = [
    ("GET", "/v2/{}/manifests/v1"),
    ("GET", "/v2/org/app/manifests/{}"),
    ("GET", "/v2/org/app/blobs/{}"),
    ("GET", "/v2/org/app/blobs/uploads/{}"),
    ("GET", "/v2/org/app/referrers/{}"),
    ("GET", "/v2/{}/tags/list"),
    ("GET", "/{}"),
    ("PUT", "/v2/org/app/manifests/{}"),
    ("PUT", "/v2/{}/manifests/v1"),
    ("PUT", "/v2/org/app/blobs/uploads/{}?digest=" + DIGEST),
    ("PATCH", "/v2/org/app/blobs/uploads/{}"),
    ("POST", "/v2/org/app/blobs/uploads/?mount=" + DIGEST + "&from={}"),
    ("POST", "/v2/org/app/blobs/uploads/?digest={}"),
    ("DELETE", "/v2/org/app/manifests/{}"),
    ("DELETE", "/v2/org/app/blobs/{}"),
    ("DELETE", "/v2/{}/blobs/" + DIGEST),
    ("GET", "/v2/org/app/manifests/v1?ns={}"),
    ("PUT", "/v2/org/app/manifests/v1?tag={}"),
]


Answer = tuple[int, http.client.HTTPMessage, bytes]


def ask(
    registry: Registry, method: str, target: str, *lines: bytes, body: bytes = b""
) -> Answer | None:
    """Send a request and return status, headers and body; None where the server hung up.

    It is one that no client library would write.
    """
    head = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: localhost", LOGIN]
    head += [b"Connection: close", b"Content-Length: %d" % len(body), *lines, b"", body]
    with raw(registry.push) as connection:
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            connection.sendall(b"\r\n".join(head))
            answer.begin()
            return answer.status, answer.headers, answer.read()
        except (http.client.BadStatusLine, ConnectionError, ssl.SSLError):
            return None


def outside(harness: Harness, registry: Registry) -> dict[Path, bytes]:
    """Return every file that is not the store's own, with its content."""
    return {
        path: path.read_bytes()
        for path in harness.folder.rglob("*")
        if path.is_file() and registry.storage not in path.parents and path != registry.log
    }


@pytest.mark.parametrize(("method", "place"), PLACES)
def test_a_path_leads_nowhere(
    harness: Harness, registry: Registry, method: str, place: str
) -> None:
    """Each trick in each place is refused, without a trace of what lies outside."""
    (harness.folder / "secret").write_text("of nobody's concern")
    before = outside(harness, registry)
    answers = {trick: ask(registry, method, place.format(trick), body=b"{}") for trick in TRICKS}
    answered = {trick: answer for trick, answer in answers.items() if answer is not None}
    assert len(answered) > len(TRICKS) - 4
    for trick, (status, headers, content) in answered.items():
        assert 400 <= status < 500 or (status == 202 and method == "POST"), (trick, status)
        assert "X-Injected" not in headers
        assert b"concern" not in content and b"root:" not in content
    assert outside(harness, registry) == before
    assert {path.name for path in registry.storage.glob("*")} <= {
        "control",
        "docker",
        "lock",
        "log",
        "tmp",
    }
    assert registry.push.get("/v2/").status_code == 200
    assert "Traceback" not in registry.log.read_text()


def test_a_name_may_be_percent_encoded(registry: Registry) -> None:
    """``org%2Fapp`` is ``org/app``, as some clients write it."""
    digest = registry.push_image("org/app", "v1")
    answer = ask(registry, "GET", "/v2/org%2Fapp/manifests/v1")
    assert answer is not None
    assert (answer[0], answer[1]["Docker-Content-Digest"]) == (200, digest)


@pytest.mark.parametrize(
    "target",
    [
        "*",
        "http://elsewhere.example/v2/",
        "/v2/\x00",
        "/v2/\x7f",
        "/v2/ /x",
        "/v2/?" + "&".join(f"n{i}={i}" for i in range(1000)),
        "/" + "v2/" * 5000,
        "/v2/" + quote("a" * 70_000),
    ],
)
def test_odd_request_targets(registry: Registry, target: str) -> None:
    """Whatever stands in the request line, the next client is served."""
    answer = ask(registry, "GET", target)
    assert answer is None or 200 <= answer[0] < 500
    assert registry.push.get("/v2/").status_code == 200
    assert "Traceback" not in registry.log.read_text()


def test_names_as_long_as_they_may_be(registry: Registry) -> None:
    """255 characters of name and 128 of tag fit into a file system's names."""
    name = "/".join(["n" * 84] * 3)
    assert len(name) == 254
    digest = registry.push_image(f"{name}a", "t" * 128)
    answer = registry.pull.get(f"/v2/{name}a/manifests/{'t' * 128}")
    assert answer.headers["docker-content-digest"] == digest
    one = "n" * 255
    answer = registry.push.post(f"/v2/{one}/blobs/uploads/")
    assert answer.status_code == 202, answer.text


def test_a_header_that_is_not_text(registry: Registry) -> None:
    """Bytes of any kind in a header are no reason to fail."""
    line = b"User-Agent: \xff\xfe" + os.urandom(20).replace(b"\r", b"").replace(b"\n", b"")
    answer = ask(registry, "GET", "/v2/", line)
    assert answer is None or answer[0] in (200, 400)
