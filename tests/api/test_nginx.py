# SPDX-License-Identifier: Apache-2.0
"""Behind a real nginx that ends TLS: tokens and uploads work, by whatever the proxy tells."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.api.configurations import once, only
from tests.api.harness import PASSWORD, USER, Harness, digest_of
from tests.nginx import nginx_command
from tests.ports import free_port

pytestmark = only(once, why="one port by plain HTTP, with whatever nginx has to know")

CONTENT = b"content" * 500_000
DIGEST = digest_of(CONTENT)

SERVER = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    client_max_body_size 0;
    location {location} {{
        proxy_pass http://127.0.0.1:{backend}/;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        {headers}
    }}
}}
"""

#: What a proxy may be set up to say, and the path below which it shows the registry.
PROXIES = {
    "X-Forwarded": (
        "/",
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;",
    ),
    "Forwarded": (
        "/",
        "proxy_set_header Forwarded 'for=$remote_addr;proto=$scheme;host=\"$http_host\"';",
    ),
    "port apart": (
        "/",
        "proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;"
        " proxy_set_header X-Forwarded-Port $server_port;",
    ),
    "prefix": (
        "/below/this/",
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;"
        " proxy_set_header X-Forwarded-Prefix /below/this;",
    ),
}


#: Starts it in front of a port, shown below a path and with these lines; returns its URL.
Nginx = Callable[[int | None, str, str], str]


@pytest.fixture
def nginx(harness: Harness) -> Iterator[Nginx]:
    """Start nginx in front of a registry's port; it ends with the test."""
    started = []

    def start(backend: int | None, location: str, headers: str) -> str:
        port = free_port()
        server = SERVER.format(
            port=port,
            backend=backend,
            certificate=harness.folder / "server.pem",
            key=harness.folder / "server.key",
            location=location,
            headers=headers,
        )
        process = subprocess.Popen(nginx_command(harness.folder, server, "master_process off;"))
        started.append(process)
        wait_for(port, process)
        return f"https://127.0.0.1:{port}{location.rstrip('/')}"

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)


def log_in(client: httpx.Client, challenge: str) -> tuple[str, dict[str, str]]:
    """Fetch a token from where the challenge says, as docker does."""
    said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {"service": said["service"], "scope": said["scope"]}
    answer = client.get(said["realm"], params=query, auth=(USER, PASSWORD))
    return said["realm"], {"Authorization": f"Bearer {answer.json()['token']}"}


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_push_and_a_pull_through_nginx(
    harness: Harness, nginx: Nginx, proxy: str, absolute: bool
) -> None:
    """The realm and the locations are those of the outside, whole or as paths."""
    registry = harness.start(single=True, tls=None, absolute_urls=absolute)
    location, headers = PROXIES[proxy]
    outside = nginx(registry.pull.base_url.port, location, headers)
    path = httpx.URL(outside).path.rstrip("/")
    client = harness.client(httpx.URL(outside).port)
    uploads = f"{outside}/v2/org/app/blobs/uploads/"

    refused = client.post(uploads)
    assert refused.status_code == 401
    realm, token = log_in(client, refused.headers["www-authenticate"])
    assert realm == f"{outside}/token"

    answer = client.post(uploads, headers=token)
    assert answer.headers["location"].startswith(f"{outside if absolute else path}/v2/org/app/")
    answer = client.patch(
        answer.url.join(answer.headers["location"]), headers=token, content=CONTENT
    )
    assert answer.status_code == 202
    address = answer.url.join(answer.headers["location"]).copy_merge_params({"digest": DIGEST})
    answer = client.put(address, headers=token)
    assert answer.status_code == 201
    pulled = client.get(answer.url.join(answer.headers["location"]))
    assert pulled.content == CONTENT
    assert parts_of(client, pulled.url) == [CONTENT[:10], CONTENT[-10:]]

    raw = registry.image("org/app")
    for tag in ("a", "b"):
        put = f"{outside}/v2/org/app/manifests/{tag}"
        answer = client.put(put, headers={"Content-Type": "", **token}, content=raw)
        assert answer.status_code == 201
    page = client.get(f"{outside}/v2/org/app/tags/list?n=1")
    following = page.url.join(page.links["next"]["url"])
    assert client.get(following).json()["tags"] == ["b"]


def parts_of(client: httpx.Client, url: httpx.URL) -> list[bytes]:
    """Return the first and the last ten bytes, asked for in one request."""
    answer = client.get(url, headers={"Range": "bytes=0-9,-10"})
    assert answer.status_code == 206
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    sections = answer.content.split(b"--" + boundary)[1:-1]
    return [section.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for section in sections]
