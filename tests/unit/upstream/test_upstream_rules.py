# SPDX-License-Identifier: Apache-2.0
"""Which upstream a repository belongs to, and where."""

import pytest
from buildset_registry.config import UpstreamSettings
from buildset_registry.oci.names import RepositoryName
from buildset_registry.upstream.hosts import UpstreamRules

HUB = UpstreamSettings(name="docker.io", url="https://docker.io")
QUAY = UpstreamSettings(name="Quay.io", url="https://quay.io/")
PORT = UpstreamSettings(name="registry.example:5000", url="http://registry.example:5000")
RULES = UpstreamRules((HUB, QUAY, PORT))


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
def test_the_host_in_the_name_decides(name: str, upstream: UpstreamSettings | None) -> None:
    """A repository belongs to the upstream that its name says, and to no other."""
    assert RULES.find(RepositoryName(name)) == upstream


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_may_be_configured_by_any_of_its_names(name: str) -> None:
    """All of them are the registry of names without a host."""
    upstream = UpstreamSettings(name=name, url="https://mirror.example")
    assert UpstreamRules((upstream,)).find(RepositoryName("org/app")) == upstream


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
    assert RULES.urls(UpstreamSettings(name="any", url=url), RepositoryName(name)) == (repository,)


def test_a_mirror_comes_first() -> None:
    """The upstream itself is the last that is asked."""
    upstream = UpstreamSettings(
        name="quay.io", url="https://quay.io", mirror="http://mirror.example"
    )
    assert RULES.urls(upstream, RepositoryName("quay.io/org/app")) == (
        "http://mirror.example/v2/org/app",
        "https://quay.io/v2/org/app",
    )
