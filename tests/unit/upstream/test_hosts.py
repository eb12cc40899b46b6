# SPDX-License-Identifier: Apache-2.0
"""The upstream that a repository belongs to, its hosts, and the words for what they refuse."""

import time
from dataclasses import replace
from typing import Any

import pytest
from buildset_registry.errors import BlobUnknown, ManifestUnknown
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.names import RepositoryName
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.upstream.hosts import (
    Host,
    RemoteAccount,
    RepositoryRequest,
    Upstream,
    Upstreams,
)

NAME = RepositoryName("quay.io/org/app")
LOGIN = {"username": "ci", "password": "secret"}
HUB = Upstream(name=RegistryHost("docker.io"), url="https://docker.io")
QUAY = Upstream(name=RegistryHost.parse("Quay.io"), url="https://quay.io/")
PORT = Upstream(name=RegistryHost("registry.example:5000"), url="http://registry.example:5000")
UPSTREAMS = Upstreams((HUB, QUAY, PORT))


def hosts(**settings: Any) -> tuple[Host, ...]:
    upstream = Upstream(**{"name": "quay.io", "url": "https://quay.io", **settings})
    return Upstreams((upstream,)).hosts(NAME)


@pytest.mark.parametrize(
    ("name", "upstream"),
    [
        ("app", HUB),
        ("org/app", HUB),
        ("quay.io/org/app", QUAY),
        ("registry.example__5000/app", PORT),
        ("registry.example/app", None),
        ("quay.io.example/app", None),
    ],
)
def test_the_host_in_the_name_decides(name: str, upstream: Upstream | None) -> None:
    """A repository belongs to the upstream that its name says, and to no other."""
    assert UPSTREAMS.find(RepositoryName(name)) == upstream


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_may_be_configured_by_any_of_its_names(name: str) -> None:
    """All of them are the registry of names without a host."""
    upstream = Upstream(name=RegistryHost.parse(name), url="https://mirror.example")
    assert Upstreams((upstream,)).find(RepositoryName("org/app")) == upstream


@pytest.mark.parametrize(
    ("url", "name", "repository"),
    [
        ("https://docker.io", "app", "https://registry-1.docker.io/v2/library/app"),
        ("https://index.docker.io/", "org/app", "https://registry-1.docker.io/v2/org/app"),
        ("https://quay.io", "quay.io/org/app", "https://quay.io/v2/org/app"),
        ("https://a.example:5000/v2/", "a/b", "https://a.example:5000/v2/a/b"),
        ("https://a.example/hub", "a/b", "https://a.example/hub/v2/a/b"),
        ("https://a.example/v2/hub", "a/b", "https://a.example/v2/hub/a/b"),
        ("https://user:secret@A.example", "a/b", "https://a.example/v2/a/b"),
        ("http://[::1]:5000", "a/b", "http://[::1]:5000/v2/a/b"),
    ],
)
def test_the_api_is_below_v2(url: str, name: str, repository: str) -> None:
    """A configured URL may have a path, end with a slash, or name Docker Hub's web host."""
    found = RepositoryName(name)
    upstream = Upstream(name=found.host, url=url)
    assert [host.url for host in Upstreams((upstream,)).hosts(found)] == [repository]


def test_a_mirror_comes_first() -> None:
    """The upstream itself is the last that is asked."""
    mirror, last = hosts(mirror="http://mirror.example")
    assert mirror.url == "http://mirror.example/v2/org/app"
    assert last.url == mirror.upstream_url == "https://quay.io/v2/org/app"


def test_a_repository_of_nobody_has_no_host() -> None:
    """Nobody is asked for it."""
    assert Upstreams(()).hosts(NAME) == ()


def test_the_upstream_comes_last_and_is_tried_again() -> None:
    """A mirror gets one try, and no credentials on another host."""
    mirror, last = hosts(mirror="https://mirror.example/quay", **LOGIN)
    assert mirror.url == "https://mirror.example/quay/v2/org/app"
    assert (mirror.pauses, mirror.credentials) == ((), None)
    assert last.url == "https://quay.io/v2/org/app"
    assert len(last.pauses) == 2
    assert last.credentials is not None


def test_a_mirror_on_the_same_host_gets_the_credentials() -> None:
    """It is the same server."""
    mirror, _ = hosts(mirror="https://quay.io/mirror", **LOGIN)
    assert mirror.credentials is not None


def test_a_token_is_asked_for_the_repository_of_its_host() -> None:
    """The repository as it is called there."""
    mirror, last = hosts(mirror="https://mirror.example/v2/quay")
    assert mirror.account.scope == "repository:quay/org/app:pull"
    assert last.account.scope == "repository:org/app:pull"


def test_a_failure_names_who_was_asked() -> None:
    """The registry, and the server, which may be a mirror."""
    mirror, last = hosts(mirror="https://mirror.example")
    assert mirror.failed(UpstreamError("broke")).message == (
        "upstream quay.io (mirror https://mirror.example): broke"
    )
    assert (
        last.failed(UpstreamError("broke")).message == "upstream quay.io (https://quay.io): broke"
    )


@pytest.mark.parametrize(
    ("value", "passed_on"),
    [
        ("120", True),
        ("Fri, 31 Dec 2027 23:59:59 GMT", True),
        (None, False),
        ("1\u20ac", False),
        ("x" * 41, False),
    ],
)
def test_retry_after_is_passed_on_where_it_is_one(value: str | None, passed_on: bool) -> None:
    """Nothing that upstream makes up reaches a client's parser."""
    (last,) = hosts()
    headers = {"Retry-After": value} if passed_on else {}
    told = {} if value is None else {"Retry-After": value}
    assert last.busy(told).headers == headers
    assert last.failed(UpstreamError("no", retry_after=value)).headers == headers


def test_advice_depends_on_the_credentials() -> None:
    """Those who have some cannot be told to give some."""
    (without,), (having,) = hosts(), hosts(**LOGIN)
    request = RepositoryRequest("blobs/x", BlobUnknown, BlobUnknown)
    assert without.busy({}).message.endswith("; give it credentials, or a mirror")
    assert having.busy({}).message.endswith("limits the rate of requests")
    assert without.denies(request, without.account).message.endswith("; give it credentials")
    assert having.denies(request, having.account).message.endswith("; check its credentials")


def test_nobody_is_told_to_give_credentials_for_where_an_upstream_redirects_to() -> None:
    """They would never go there; the other registry can be configured itself."""
    (host,) = hosts(**LOGIN)
    account = RemoteAccount.anonymous("https://ghcr.example:8443/v2/real/app/blobs/x")
    assert account is not None
    message = host.denies(RepositoryRequest("blobs/x", BlobUnknown, BlobUnknown), account).message
    assert "redirects to ghcr.example:8443, which denies access to real/app" in message
    assert "credentials" not in message


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("https://a.example/v2/org/app/manifests/v1", "https://a.example/v2/org/app"),
        ("https://a.example:1/v2/app/blobs/sha256:0?x=/y", "https://a.example:1/v2/app"),
        ("https://a.example/p/v2/q/app/referrers/sha256:0", "https://a.example/p/v2/q/app"),
        ("https://a.example/v2/manifests/v1", None),
        ("https://a.example/v2/app/tags/list", None),
        ("https://a.example/store/v2-app/blobs/0", None),
        ("https://a.example/docker/registry/v2/blobs/sha256/00/00/data", None),
    ],
)
def test_what_an_upstream_redirects_to_is_another_registry_or_storage(
    url: str, account: str | None
) -> None:
    """A registry is told by its API; only there is it asked for an account, which is nobody's."""
    found = RemoteAccount.anonymous(url)
    assert (found and (found.url, found.credentials)) == (account and (account, None))


def test_a_long_address_is_read_at_once() -> None:
    """Of a redirect that is as long as a header may be: it took seconds, and all others waited."""
    begun = time.process_time()
    for path in ("/v2" * 21_000, "/v2/a" * 12_000 + "/manifests", "/v2/blobs" * 7_000 + "/"):
        assert RemoteAccount.anonymous(f"https://ghcr.io{path}") is None
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("status", [400, 404, 405, 406, 410, 415, 501])
def test_a_part_of_the_api_that_is_refused_is_not_there(status: int) -> None:
    """Where a registry may be without it."""
    request = RepositoryRequest("referrers/x", BlobUnknown, BlobUnknown, optional=True)
    assert request.is_missing(status)
    assert replace(request, optional=False).is_missing(status) == (status == 404)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_failure_that_passes_says_nothing_of_what_is_there(status: int) -> None:
    """A list that cannot be had now is not one that is empty."""
    request = RepositoryRequest("referrers/x", BlobUnknown, BlobUnknown, optional=True)
    assert not request.is_missing(status)


def test_the_missing_manifest_is_named() -> None:
    """By its kind and by what it was asked by."""
    (last,) = hosts()
    refusal = last.lacks(RepositoryRequest("manifests/v1", ManifestUnknown, ManifestUnknown))
    assert refusal.message == "upstream quay.io has no manifest v1 in org/app"


def test_a_password_is_in_no_text() -> None:
    """Neither in that of a host, nor in that of a request."""
    (last,) = hosts(**LOGIN)
    request = last.request("GET", "https://quay.io/x", {"Authorization": "secret"})
    assert "secret" not in repr(last)
    assert "secret" not in repr(request)
