# SPDX-License-Identifier: Apache-2.0
"""``?ns=``, by which a client names the registry: each address in an answer goes on naming it."""

from urllib.parse import parse_qs, urlsplit

import pytest
from httpx import Response

from tests.api.harness import Harness, digest_of

CONTENT = b"content"
DIGEST = digest_of(CONTENT)
MANIFEST = b'{"of": "a registry"}'
TYPE = {"Content-Type": "application/vnd.example+json"}


@pytest.mark.parametrize("named", ["quay.io", "Registry.Example:5000", "[::1]:5000", "docker.io"])
def test_addresses_go_on_naming_the_registry(harness: Harness, named: str) -> None:
    """Of uploads, blobs and manifests, by each way to push them, and of the next page of a list."""
    registry = harness.start()
    query = {"ns": named}

    def location(answer: Response, status: int) -> str:
        assert answer.status_code == status, answer.text
        found = answer.headers["location"]
        assert parse_qs(urlsplit(found).query)["ns"] == [named]
        return str(found)

    def uploads(repository: str, **more: str) -> Response:
        path = f"/v2/{repository}/blobs/uploads/"
        body = CONTENT if "digest" in more else b""
        answer: Response = registry.push.post(path, params={**query, **more}, content=body)
        return answer

    started = location(uploads("app"), 202)
    grown = location(registry.push.patch(started, content=CONTENT), 202)
    assert location(registry.push.get(grown), 204) == started
    done = location(registry.push.put(f"{grown}&digest={DIGEST}"), 201)
    whole = location(uploads("whole", digest=DIGEST), 201)
    mounted = location(uploads("mounted", mount=DIGEST, **{"from": "app"}), 201)
    for address in (done, whole, mounted):
        assert registry.pull.get(address).content == CONTENT
    for number in range(3):
        answer = registry.push.put(
            f"/v2/app/manifests/v{number}", params=query, content=MANIFEST, headers=TYPE
        )
        assert registry.pull.get(location(answer, 201)).content == MANIFEST
    page = registry.pull.get("/v2/app/tags/list", params={**query, "n": "2"})
    following = page.headers["link"].partition("<")[2].partition(">")[0]
    assert page.json()["tags"] == ["v0", "v1"]
    assert registry.pull.get(following).json()["tags"] == ["v2"]
    if named != "docker.io":
        assert registry.pull.get("/v2/app/tags/list").status_code == 404


@pytest.mark.parametrize("named", ["a b", "..", "a/b", "[::1", "quay.io:x", "quay.io:0", ""])
def test_what_names_no_registry_is_a_bad_name(harness: Harness, named: str) -> None:
    """Never a server error, and never another registry."""
    answer = harness.start().pull.get("/v2/app/manifests/v1", params={"ns": named})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "NAME_INVALID"
