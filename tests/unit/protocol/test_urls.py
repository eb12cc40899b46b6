# SPDX-License-Identifier: Apache-2.0
"""URLs that an upstream may point the client to."""

import pytest
from buildset_registry.protocol.errors import UpstreamError
from buildset_registry.protocol.urls import is_forbidden, onward, origin, server, without_query
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("source", "target", "url"),
    [
        ("https://a.example/v2/x", "/y?z=1", "https://a.example/y?z=1"),
        ("https://a.example/v2/x", "https://b.example/y", "https://b.example/y"),
        ("https://a.example/v2/x", "//b.example:8443/y", "https://b.example:8443/y"),
        ("http://a.example/x", "http://b.example/y", "http://b.example/y"),
        ("http://a.example/x", "https://b.example/y#part", "https://b.example/y"),
        ("https://a.example/x", "https://user:secret@b.example/y", "https://b.example/y"),
        ("https://a.example/x", "https://b.example/y?s=%2F+%20", "https://b.example/y?s=%2F+%20"),
        ("https://a.example/x", "https://10.0.0.1/y", "https://10.0.0.1/y"),
    ],
)
def test_an_upstream_may_point_to_another_server(source: str, target: str, url: str) -> None:
    """A target is resolved as a browser does it, and its query, which may be signed, is kept."""
    assert onward(source, target) == url


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://b.example/y", "points to http://b.example/y, which is without TLS"),
        ("ftp://b.example/y", "'ftp://b.example/y', which is not an https:// URL"),
        ("https://:8/y", "which is not an https:// URL"),
        ("https:///y", "'https:///y', which is not an https:// URL"),
        ("https://[::1/y", "'https://[::1/y', which is not an https:// URL"),
        ("https://b.example:port/y", "which is not an https:// URL"),
        ("https://169.254.169.254/latest", "link-local address 169.254.169.254"),
        ("https://[fe80::1]/y", "link-local address fe80::1"),
        ("https://[::ffff:169.254.169.254]/y", "link-local address"),
        ("https://[fd00:ec2::254]/y", "link-local address"),
    ],
)
def test_an_upstream_may_not_point_to_every_server(target: str, reason: str) -> None:
    """Out of TLS, to what is no URL of a server, or to what only this host can reach."""
    with pytest.raises(UpstreamError) as refused:
        onward("https://a.example/x", target)
    assert reason in refused.value.reason


@pytest.mark.parametrize("address", ["fe80::1%eth0", "169.254.0.1"])
def test_a_link_local_address_is_forbidden(address: str) -> None:
    """A zone makes no difference."""
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "fd00::1", "registry.example", ""])
def test_other_addresses_and_names_are_not(address: str) -> None:
    """Storage inside the site is usual."""
    assert not is_forbidden(address)


def test_an_origin_has_the_port_of_its_scheme() -> None:
    """Writing the usual port makes no other server of it."""
    assert origin("https://A.example/x") == origin("https://a.example:443")
    assert origin("http://a.example") != origin("https://a.example")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://quay.io/x", "quay.io"),
        ("https://quay.io:443/x", "quay.io"),
        ("http://u:p@Quay.io:443", "quay.io:443"),
        ("https://[::1]:5000/x", "[::1]:5000"),
        ("https://[::1]/x", "[::1]"),
    ],
)
def test_a_server_is_named_with_a_port_that_its_scheme_does_not_tell(url: str, name: str) -> None:
    """Several servers of one host can be told apart."""
    assert server(url) == name


def test_what_is_logged_has_no_secret() -> None:
    """Signatures stand in queries, passwords before the host."""
    assert without_query("https://u:p@a.example:1/x?sig=2#3") == "https://a.example:1/x"


@given(st.text())
def test_any_location_is_followed_or_refused(target: str) -> None:
    """No text that an upstream sends causes another error."""
    try:
        url = onward("https://a.example/x", target)
    except UpstreamError:
        return
    assert url.startswith("https://")
