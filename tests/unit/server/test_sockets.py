# SPDX-License-Identifier: Apache-2.0
"""The options that a connection has from the socket that it came by."""

from __future__ import annotations

import socket

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
