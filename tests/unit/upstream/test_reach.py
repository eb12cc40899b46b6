# SPDX-License-Identifier: Apache-2.0
"""How far in an address is."""

import pytest
from buildset_registry.upstream.reach import Reach, reach_of


@pytest.mark.parametrize(
    ("reach", "addresses"),
    [
        (
            Reach.PUBLIC,
            "203.0.113.10 198.18.0.1 172.32.0.1 2600::1 ::ffff:8.8.8.8 64:ff9b::808:808",
        ),
        (Reach.PRIVATE, "10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fd12::1"),
        (Reach.PRIVATE, "::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: ::10.0.0.1 fec0::1"),
        (Reach.LOOPBACK, "127.0.0.1 127.9.9.9 0.0.0.0 ::1 :: ::ffff:127.0.0.1 64:ff9b::7f00:1"),
        (Reach.NOBODY, "169.254.169.254 fe80::1%eth0 fd00:ec2::254 ::ffff:169.254.0.1"),
        (None, "localhost 127.0.0.1.example a.example"),
    ],
)
def test_an_address_tells_how_far_in_it_is(reach: Reach | None, addresses: str) -> None:
    """Those of IPv6 that stand for one of IPv4 are where that is; a name tells nothing."""
    assert {reach_of(one) for one in addresses.split()} == {reach}


def test_what_leads_inwards_is_refused_by_words() -> None:
    """Each has its own."""
    assert len({reach.words for reach in Reach}) == 4
