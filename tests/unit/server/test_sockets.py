# SPDX-License-Identifier: Apache-2.0
"""The options that a connection has from the socket that it came by."""

from __future__ import annotations

import socket

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.server.sockets import open_listener

from tests.ports import free_port


def test_no_end_of_an_answer_waits_for_the_client_to_confirm_what_came_before() -> None:
    with (
        open_listener("127.0.0.1", free_port(), "pull", 7) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("[::1]", "it is no address; give one of this host, without brackets"),
        ("no.such.host.invalid", "it is no address; give one of this host"),
        ("192.0.2.77", "Cannot assign requested address; give an address of this host"),
    ],
)
def test_an_address_that_is_none_of_this_host_is_told(address: str, line: str) -> None:
    """Not as ``Unknown error -2``, nor as a port that somebody uses."""
    with pytest.raises(ConfigError) as refused:
        open_listener(address, free_port(), "pull", 7)
    assert line in str(refused.value)


def test_a_port_that_is_taken_is_told() -> None:
    with (
        open_listener("127.0.0.1", free_port(), "pull", 7) as listener,
        pytest.raises(ConfigError, match="stop what uses it or choose another port"),
    ):
        open_listener("127.0.0.1", listener.getsockname()[1], "push", 7)
