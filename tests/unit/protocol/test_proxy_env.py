# SPDX-License-Identifier: Apache-2.0
"""Which proxy leads where."""

import pytest
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.proxy_env import ProxyEnvironment
from hypothesis import given
from hypothesis import strategies as st

PROXY = "http://proxy.example:3128"
QUAY = "https://quay.io/v2/"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, QUAY, None),
        ({"HTTPS_PROXY": PROXY}, QUAY, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example"}, QUAY, PROXY),
        ({"HTTP_PROXY": PROXY}, QUAY, None),
        ({"HTTP_PROXY": PROXY}, "http://quay.io/", PROXY),
        (
            {"HTTPS_PROXY": "user:secret@proxy.example:1"},
            QUAY,
            "http://user:secret@proxy.example:1",
        ),
        ({"HTTPS_PROXY": PROXY}, "https://localhost:5000/", None),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.9/", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:5000/", None),
    ],
)
def test_the_environment_names_a_proxy_for_each_scheme(
    environment: dict[str, str], url: str, proxy: str | None
) -> None:
    """Small letters come first; the host itself is reached directly."""
    assert ProxyEnvironment(environment).find(url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", "https://quay.io/"),
        ("quay.io", "https://quay.io/"),
        ("example.com, QUAY.io", "https://cdn.quay.io/"),
        (".quay.io", "https://cdn.quay.io/"),
        ("*.quay.io", "https://cdn.quay.io/"),
        ("quay.io:443", "https://quay.io/"),
        ("10.0.0.0/8", "https://10.1.2.3/"),
        ("10.1.2.3", "https://10.1.2.3/"),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/"),
        ("fd00::/8", "https://[fd00::1]/"),
        ("fd00::1", "https://[fd00::1]/"),
        ("[fd00:0::1]:5000", "https://[fd00::1]:5000/"),
    ],
)
def test_no_proxy_names_hosts_that_are_reached_directly(no_proxy: str, url: str) -> None:
    """Names with their subdomains, addresses, networks, ports."""
    assert ProxyEnvironment({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}).find(url) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", "https://quay.io/"),
        ("ay.io", "https://quay.io/"),
        ("quay.io:5000", "https://quay.io/"),
        (".", "https://quay.io/"),
        ("10.0.0.0/8", "https://11.1.2.3/"),
        ("10.0.0.0/8", "https://ten.example/"),
        ("10.0.0.0/99", "https://10.1.2.3/"),
        ("fd00::/8", "https://10.1.2.3/"),
        ("[fd00::1]:5000", "https://[fd00::1]/"),
    ],
)
def test_no_proxy_names_no_others(no_proxy: str, url: str) -> None:
    """What is not listed goes by the proxy."""
    assert ProxyEnvironment({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}).find(url) == PROXY


def test_a_proxy_of_an_unknown_kind_is_named_without_its_password() -> None:
    """The message says which setting to change."""
    proxies = ProxyEnvironment({"HTTPS_PROXY": "socks5://user:secret@proxy.example:1080"})
    with pytest.raises(UpstreamError) as refused:
        proxies.find(QUAY)
    assert refused.value.reason == (
        "the proxy socks5://proxy.example:1080 is of an unknown kind; "
        "set HTTPS_PROXY to an http:// URL"
    )


@pytest.mark.parametrize(
    "proxy", ["http://a:b@proxy.example:door", "http://a:b@", "http://a:b@[::"]
)
def test_a_proxy_that_is_no_address_is_told_without_its_password(proxy: str) -> None:
    """Before anybody tries to connect there."""
    with pytest.raises(UpstreamError, match="unknown kind; set HTTPS_PROXY") as refused:
        ProxyEnvironment({"HTTPS_PROXY": proxy}).find(QUAY)
    assert "a:b" not in refused.value.reason


@given(st.text())
def test_any_no_proxy_is_read(no_proxy: str) -> None:
    """Nonsense in it causes no error."""
    assert ProxyEnvironment({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}).find(QUAY) in (
        PROXY,
        None,
    )
