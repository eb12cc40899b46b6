# SPDX-License-Identifier: Apache-2.0
"""Pages for people: what is here, and a login where pulling wants one."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

from tests.api.configurations import once, only, single_port, two_endpoints
from tests.api.harness import Harness, Registry, digest_of
from tests.unit.report.test_page import NASTY, Reader
from tests.unit.upstream.lab import Server

NAME = "quay.io/org/app"


def push_with_history(registry: Registry, text: str) -> str:
    """Push an image whose configuration tells how it was made; return its digest."""
    history = [{"created": "2026-01-01T00:00:00Z", "created_by": text}, "no step"]
    config = json.dumps({"os": "linux", "architecture": text, "history": history}).encode()
    digest = registry.push_blob(NAME, config)
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": len(config),
        },
        "layers": [],
    }
    raw = json.dumps(tree).encode()
    assert registry.put_manifest(NAME, "1.0", raw).status_code == 201
    return digest_of(raw)


def shown(client: httpx.Client, path: str) -> Reader:
    """Return a page that was asked for, with the headers that every page has."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Reader(answer.text)


def links(page: Reader) -> list[str]:
    """Return where a page leads."""
    found = [str(one["href"]) for one in page.all("a")]
    return [link for link in found if not link.startswith("#")]


def test_pages_lead_from_a_repository_to_its_layers(registry: Registry) -> None:
    """Repository, tag, image, with lines to copy; every link of them leads somewhere."""
    digest = push_with_history(registry, "RUN make")
    front = shown(registry.push, "/")
    (repository,) = links(front)
    tags = shown(registry.push, repository)
    (tag, back) = sorted(links(tags), key=len, reverse=True)
    assert back == "/"
    image = shown(registry.push, tag)
    host = registry.push.base_url.netloc.decode()
    assert f"podman pull {host}/{NAME}:1.0" in image.text
    assert f"docker pull {host}/{NAME}@{digest}" in image.text
    assert "RUN make" in image.text and "linux" in image.text


@only(once, why="it is the same code for all")
def test_pages_behind_a_proxy_lead_to_pages_behind_it(registry: Registry) -> None:
    """The proxy says which front of a path it takes off."""
    raw = registry.image(NAME)
    registry.put_manifest(NAME, "1.0", raw)
    listed = {"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}
    assert registry.put_manifest(NAME, "all", json.dumps(index).encode(), OCI_INDEX).is_success
    for path in ("/", f"/repositories/{NAME}", f"/repositories/{NAME}?reference=all"):
        answer = registry.push.get(path, headers={"X-Forwarded-Prefix": "/registry"})
        found = links(Reader(answer.text))
        assert found and all(link.startswith("/registry/") for link in found), path


@only(once, why="it is the same code for all")
def test_an_index_leads_to_its_platforms(registry: Registry) -> None:
    """By the digest of each."""
    raw = registry.image(NAME)
    registry.put_manifest(NAME, digest_of(raw), raw)
    listed = {"mediaType": OCI_MANIFEST, "digest": digest_of(raw), "size": len(raw)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}
    assert registry.put_manifest(NAME, "all", json.dumps(index).encode(), OCI_INDEX).is_success
    page = shown(registry.push, f"/repositories/{NAME}?reference=all")
    (platform,) = [link for link in links(page) if "reference=" in link]
    assert "Configuration and layers" in shown(registry.push, platform).text


@only(two_endpoints, once, why="others have one endpoint")
def test_the_pull_endpoint_has_no_page(registry: Registry) -> None:
    """It says where there is one."""
    answer = registry.pull.get("/")
    assert answer.status_code == 404
    assert "push to port" in answer.text


@only(single_port, why="two endpoints ask for a login in another way")
def test_a_browser_is_asked_for_a_login_where_pulling_wants_one(harness: Harness) -> None:
    """By Basic, which it knows."""
    registry = harness.start(auth={"anonymous_pull": False})
    for path in ("/", f"/repositories/{NAME}"):
        answer = registry.anonymous.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="buildset-registry"'
    shown(registry.push, "/")


@only(single_port, why="the other one that pushes asks no upstream anyhow")
def test_a_page_asks_no_upstream(harness: Harness, quay: Server) -> None:
    """Looking at what is not here fetches nothing."""
    upstream = {"name": "quay.io", "url": quay.url, "ca": "ca.pem"}
    harness.authority.cert_pem.write_to_path(harness.folder / "ca.pem")
    registry = harness.start(upstreams=[upstream])
    for path in ("", "?reference=v1"):
        assert registry.push.get(f"/repositories/{NAME}{path}").status_code == 404
    assert quay.asked == []


@only(single_port, why="rules are the same everywhere")
def test_what_a_user_may_not_pull_is_not_shown(harness: Harness) -> None:
    """Neither the repository, nor that it is there."""
    rule = {"repositories": ["quay.io/**"], "actions": ["*"]}
    registry = harness.start(auth={"anonymous_pull": False, "rules": [rule]})
    push_with_history(registry, "x")
    assert registry.push.get("/repositories/secret/app").status_code == 403


@only(once, why="it is the same code for all")
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_an_image_says_is_text(registry: Registry, text: str) -> None:
    """Its history and platform were chosen by whoever made it."""
    push_with_history(registry, "harmless")
    path = f"/repositories/{NAME}?reference=1.0"
    plain = shown(registry.push, path)
    push_with_history(registry, text)
    nasty = shown(registry.push, path)
    assert [name for name, _more in nasty.elements] == [name for name, _more in plain.elements]


@only(once, why="it is the same code for all")
@pytest.mark.parametrize("reference", ["../x", "sha256:zz", "%00", "a b", "x" * 300])
def test_a_reference_that_is_none_is_refused(registry: Registry, reference: str) -> None:
    """In a line, as the API does."""
    answer = registry.push.get(f"/repositories/{NAME}?reference={quote(reference)}")
    assert answer.status_code in (400, 404)
    assert answer.json()["errors"]


@only(once, why="it is the same code for all")
def test_a_form_of_another_site_pushes_nothing(registry: Registry) -> None:
    """A browser sends the login of these pages with it."""
    path = f"/v2/{NAME}/blobs/uploads/"
    here = str(registry.push.base_url).rstrip("/")
    foreign = (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": here},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
    )
    content = b"not asked for"
    for query in ("", f"?digest={digest_of(content)}", f"?mount={digest_of(content)}"):
        for headers in foreign:
            answer = registry.push.post(path + query, content=content, headers=headers)
            assert answer.status_code == 403, (query, headers)
            assert "another site" in answer.json()["errors"][0]["message"]
    assert registry.push.head(f"/v2/{NAME}/blobs/{digest_of(content)}").status_code == 404
    for headers in ({}, {"Origin": here}, {"Sec-Fetch-Site": "same-origin", "Origin": here}):
        assert registry.push.post(path, headers=headers).status_code == 202
