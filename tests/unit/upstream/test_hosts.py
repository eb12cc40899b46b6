# SPDX-License-Identifier: Apache-2.0
"""The words for what an upstream refuses, and what a site is told."""

from typing import Any

import pytest
from buildset_registry.config import UpstreamSettings
from buildset_registry.errors import BlobUnknown, Failure, ManifestUnknown
from buildset_registry.oci.names import RepositoryName
from buildset_registry.upstream.hosts import Question, UpstreamRules, hosts_of

NAME = RepositoryName("quay.io/org/app")
LOGIN = {"username": "ci", "password": "secret"}


def site(**settings: Any) -> tuple[Any, ...]:
    upstream = UpstreamSettings(**{"name": "quay.io", "url": "https://quay.io", **settings})
    return hosts_of(UpstreamRules((upstream,)), NAME)


def test_a_repository_of_nobody_has_no_site() -> None:
    """Nobody is asked for it."""
    assert hosts_of(UpstreamRules(()), NAME) == ()


def test_the_upstream_comes_last_and_is_tried_again() -> None:
    """A mirror gets one try, and no credentials on another host."""
    mirror, home = site(mirror="https://mirror.example/quay", **LOGIN)
    assert mirror.url == "https://mirror.example/quay/v2/org/app"
    assert (mirror.pauses, mirror.credentials) == ((), None)
    assert home.url == "https://quay.io/v2/org/app"
    assert len(home.pauses) == 2
    assert home.credentials is not None


def test_a_mirror_on_the_same_host_gets_the_credentials() -> None:
    """It is the same server."""
    mirror, _ = site(mirror="https://quay.io/mirror", **LOGIN)
    assert mirror.credentials is not None


def test_what_a_token_is_asked_for() -> None:
    """The repository as it is called there."""
    mirror, home = site(mirror="https://mirror.example/v2/quay")
    assert mirror.scope == "repository:quay/org/app:pull"
    assert home.scope == "repository:org/app:pull"


def test_a_failure_names_who_was_asked() -> None:
    """The registry, and the server, which may be a mirror."""
    mirror, home = site(mirror="https://mirror.example")
    assert mirror.failed(Failure("broke")).message == (
        "upstream quay.io (mirror https://mirror.example): broke"
    )
    assert home.failed(Failure("broke")).message == "upstream quay.io (https://quay.io): broke"


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
    (home,) = site()
    headers = {"Retry-After": value} if passed_on else {}
    told = {} if value is None else {"Retry-After": value}
    assert home.busy(told).headers == headers
    assert home.failed(Failure("no", retry_after=value)).headers == headers


def test_advice_depends_on_the_credentials() -> None:
    """Those who have some cannot be told to give some."""
    (without,), (having,) = site(), site(**LOGIN)
    wanted = Question("blobs/x", BlobUnknown, BlobUnknown)
    assert without.busy({}).message.endswith("; give it credentials, or a mirror")
    assert having.busy({}).message.endswith("limits the rate of requests")
    assert without.denies(wanted).message.endswith("; give it credentials")
    assert having.denies(wanted).message.endswith("; check its credentials")


def test_what_is_lacking_is_named() -> None:
    """By its kind and by what it was asked by."""
    (home,) = site()
    refusal = home.lacks(Question("manifests/v1", ManifestUnknown, ManifestUnknown))
    assert refusal.message == "upstream quay.io has no manifest v1 in org/app"


def test_a_password_is_in_no_text() -> None:
    """Neither in that of a site, nor in that of a request."""
    (home,) = site(**LOGIN)
    request = home.request("GET", "https://quay.io/x", {"Authorization": "secret"})
    assert "secret" not in repr(home)
    assert "secret" not in repr(request)
