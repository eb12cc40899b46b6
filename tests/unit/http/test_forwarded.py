# SPDX-License-Identifier: Apache-2.0
"""Where clients see the registry, by what proxies say."""

import pytest
from buildset_registry.http.forwarded import PublicAddress, public_address

HOST = {"host": "10.0.0.1:5000"}


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://10.0.0.1:5000"),
        ({"x-forwarded-proto": "https"}, "https://10.0.0.1:5000"),
        ({"x-forwarded-host": "reg.example"}, "http://reg.example"),
        ({"x-forwarded-host": "reg.example, inner"}, "http://reg.example"),
        (
            {
                "x-forwarded-host": "r",
                "x-forwarded-proto": "HTTPS, http",
                "x-forwarded-port": "443",
            },
            "https://r",
        ),
        ({"x-forwarded-host": "r", "x-forwarded-port": "8443"}, "http://r:8443"),
        (
            {"x-forwarded-host": "[2001:db8::1]", "x-forwarded-port": "81"},
            "http://[2001:db8::1]:81",
        ),
        ({"x-forwarded-host": "r:5000", "x-forwarded-port": "443"}, "http://r:5000"),
        ({"forwarded": "for=192.0.2.1;proto=https;host=r"}, "https://r"),
        ({"forwarded": 'Host="r:5000"; Proto=https, proto=http;host=inner'}, "https://r:5000"),
        ({"forwarded": "proto=https", "x-forwarded-host": "r"}, "https://r"),
        ({"forwarded": 'for="_a,b";host=r'}, "http://r"),
    ],
)
def test_the_first_proxy_says_it(headers: dict[str, str], origin: str) -> None:
    """Host and scheme are what clients wrote, with the port where it is told apart."""
    assert public_address(HOST | headers, "http") == PublicAddress(origin, "")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": 'evil"/realm'},
        {"x-forwarded-host": "a b"},
        {"x-forwarded-proto": "javascript"},
        {"x-forwarded-port": "8o"},
        {"x-forwarded-prefix": "//evil.example"},
        {"x-forwarded-prefix": "no-slash"},
        {"forwarded": "host=;proto=ftp"},
        {"forwarded": "nonsense"},
        {"forwarded": '"' * 5000},
        {"forwarded": "for=x;" * 1000 + "host=r"},
        {"x-forwarded-host": "r," + "x" * 5000},
        {"x-forwarded-host": "r" * 300},
        {"x-forwarded-prefix": "/registry" * 40},
    ],
)
def test_what_is_malformed_counts_as_absent(headers: dict[str, str]) -> None:
    """No header can put anything but an address into an answer."""
    assert public_address(HOST | headers, "http") == PublicAddress("http://10.0.0.1:5000", "")


def test_a_host_that_is_too_long_is_in_no_answer() -> None:
    """A head may have a mebibyte, and events that wait would keep it."""
    address = public_address({"host": "r" * 300}, "https")
    assert address == PublicAddress("https://localhost", "")


def test_a_prefix_and_no_host() -> None:
    """HTTP/1.0 knows no Host."""
    assert public_address({"x-forwarded-prefix": "/a/b/"}, "https") == PublicAddress(
        "https://localhost", "/a/b"
    )
