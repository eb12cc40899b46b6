# SPDX-License-Identifier: Apache-2.0
"""The one normal form of the name of a registry, and what stands for it in a stored name."""

import pytest
from buildset_registry.errors import NameInvalid
from buildset_registry.oci.hosts import RegistryHost, normal_host
from buildset_registry.oci.names import RepositoryName
from buildset_registry.oci.patterns import RepositoryPattern
from hypothesis import given
from hypothesis import strategies as st

#: The normal form of a registry, the component that stands for it, and other ways to write it.
REGISTRIES = [
    ("quay.io", "quay.io", ["Quay.IO", "quay.io.", "quay.io:443", "QUAY.io.:0443"]),
    ("quay.io:5000", "quay.io__5000", ["quay.io.:5000", "QUAY.io:05000"]),
    ("localhost", "localhost", ["LOCALHOST", "localhost:443"]),
    ("localhost:80", "localhost__80", ["Localhost:80"]),
    ("registry", "registry__443", ["Registry", "registry:443"]),
    ("registry:80", "registry__80", ["registry.:80"]),
    ("127.0.0.1:5000", "127.0.0.1__5000", []),
    ("[::1]", "ip6__0-0-0-0-0-0-0-1", ["[0:0:0:0:0:0:0:1]", "[::0001]:443"]),
    ("[2001:db8::a]:5000", "ip6__2001-db8-0-0-0-0-0-a__5000", ["[2001:DB8:0::A]:5000"]),
]
DOCKER_HUB = ["docker.io", "index.docker.io", "registry-1.docker.io"]


@pytest.mark.parametrize(("normal", "component", "others"), REGISTRIES)
def test_a_registry_has_one_form(normal: str, component: str, others: list[str]) -> None:
    """However it is written, also as it stands in a stored name."""
    for text in (normal, *others):
        assert RegistryHost.parse(text) == normal
        assert RegistryHost.parse(text).component == component
    assert RegistryHost.of_component(component) == normal


@pytest.mark.parametrize("host", DOCKER_HUB)
def test_docker_hub_has_one_name(host: str) -> None:
    """Its aliases are aliases in capitals, with a dot and with the port of HTTPS, too."""
    for text in (host, host.upper(), f"{host}.", f"{host}:443"):
        assert RegistryHost.parse(text) == "docker.io"
    assert RegistryHost.parse(f"{host}:5000") != "docker.io"


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ":5000", "a:0", "a:65536", "a:", "a:x", "a/b", "a b", "a..b", "-a", "a__5000"),
        *("::1", "[::1", "[::1%eth0]", "[1.2.3.4]", "[:::]", "a\n", "*.io"),
        *("qu\u00e4y.io", "\u212auay.io"),
    ],
)
def test_what_names_no_registry_is_refused(text: str) -> None:
    """A letter that becomes an ASCII one in small is none, either."""
    with pytest.raises(NameInvalid):
        RegistryHost.parse(text)


@pytest.mark.parametrize(
    "text",
    ["a" * 254, "a" * 254 + ".", "a" * 300, "a" * 64_000, "a." * 30_000 + "example:5000"],
    ids=len,
)
def test_a_host_has_a_length(text: str) -> None:
    """What is longer is refused before anything remembers it (RFC 1035, 2.3.4)."""
    with pytest.raises(NameInvalid, match=r"a host has at most 253 characters") as refused:
        RegistryHost.parse(text)
    assert len(refused.value.message) < 200


def test_the_longest_host_is_a_registry() -> None:
    """With a final dot, and a port, too."""
    host = "a" * 253
    assert RegistryHost.parse(f"{host}.:65535") == f"{host}:65535"
    assert RegistryHost.parse(host.upper()) == host


@pytest.mark.parametrize(
    ("path", "namespace", "stored"),
    [
        ("org/app", None, "org/app"),
        ("docker.io/org/app", None, "org/app"),
        ("docker.io/index.docker.io/org/app", None, "org/app"),
        ("registry-1.docker.io__443/org/app", None, "org/app"),
        ("org/app", "Index.Docker.io.", "org/app"),
        ("org/app", "registry-1.docker.io:443", "org/app"),
        ("docker.io/org/app", "docker.io:443", "org/app"),
        ("quay.io__443/org/app", None, "quay.io/org/app"),
        ("quay.io__0443/org/app", None, "quay.io/org/app"),
        ("docker.io/quay.io__443/org/app", None, "quay.io/org/app"),
        ("org/app", "quay.io:443", "quay.io/org/app"),
        ("org/app", "QUAY.io.", "quay.io/org/app"),
        ("quay.io/org/app", "quay.io:443", "quay.io/org/app"),
        ("quay.io__443/org/app", "quay.io", "quay.io/org/app"),
        ("app", "[::1]:5000", "ip6__0-0-0-0-0-0-0-1__5000/app"),
        ("ip6__0-0-0-0-0-0-0-1__5000/app", "[0::1]:5000", "ip6__0-0-0-0-0-0-0-1__5000/app"),
        ("app", "registry", "registry__443/app"),
        ("x__0/app", None, "x__0/app"),
        ("quay.io", None, "quay.io"),
    ],
)
def test_a_name_has_one_form_however_its_registry_is_written(
    path: str, namespace: str | None, stored: str
) -> None:
    """So that what is private by one name is private by each."""
    assert RepositoryName.resolve(path, namespace) == stored


def test_what_cannot_be_a_registry_is_no_other_one() -> None:
    """Least of all Docker Hub, whose rights it would have."""
    assert RepositoryName.resolve("x__0/app").host == "x__0"
    assert RepositoryName.resolve("x.y__99999/app").host == "x.y__99999"


def test_a_scope_may_name_the_port_of_a_registry() -> None:
    """In a URL there is no room for it."""
    assert RepositoryName.scoped("quay.io:5000/app") == "quay.io__5000/app"
    assert RepositoryName.scoped("index.docker.io:443/org/app") == "org/app"
    assert RepositoryName.scoped("org/app") == "org/app"
    for bad in ("quay.io:5000", "quay.io:x/app", "org/app:5000"):
        with pytest.raises(NameInvalid):
            RepositoryName.scoped(bad)


_PARTS = st.sampled_from(
    [
        *DOCKER_HUB,
        *("docker.io__443", "quay.io", "quay.io__0443", "x__1", "x__0", "localhost__443", "a"),
        *("library", "ip6__0-0-0-0-0-0-0-1", "ip6__0-0-0-0-0-0-0-1__443", "a.b__c"),
    ]
)


@given(st.lists(_PARTS, min_size=1, max_size=4), st.none() | st.sampled_from(["quay.io", "x"]))
def test_a_normal_form_is_its_own_normal_form(parts: list[str], namespace: str | None) -> None:
    """Whatever comes out can go in again, and belongs to the registry that its first part says."""
    name = RepositoryName.resolve("/".join(parts), namespace)
    assert RepositoryName.resolve(name) == name
    assert name.host == "docker.io" or name.startswith(f"{name.host.component}/")
    assert "__" in name.host or RegistryHost.parse(name.host) == name.host


@given(st.text(max_size=60))
def test_any_text_names_a_registry_or_is_refused(text: str) -> None:
    """What passes can be the first component of a name."""
    try:
        host = RegistryHost.parse(text)
    except NameInvalid:
        return
    assert RepositoryName.parse(f"{host.component}/app").host == host


@pytest.mark.parametrize(
    "text",
    ["registry.example:99999/**", "Org/app", "org//app", "/org", "org/", "a b", "", "[::1/x"],
)
def test_a_pattern_that_matches_nothing_is_refused(text: str) -> None:
    """A rule that never holds looks like one that does."""
    with pytest.raises(NameInvalid):
        RepositoryPattern.parse(text)


def test_a_host_alone_has_a_normal_form() -> None:
    """As a client of the proxy names it."""
    assert normal_host("Quay.IO.") == "quay.io"
    assert normal_host("0:0::1") == "::1"
    with pytest.raises(NameInvalid):
        normal_host("1:2")
