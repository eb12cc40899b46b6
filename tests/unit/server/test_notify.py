# SPDX-License-Identifier: Apache-2.0
"""Words to systemd."""

import socket
from pathlib import Path

import pytest
from buildset_registry.server.notify import READY, notify


def test_systemd_hears_that_the_registry_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the socket that it names, as a file or in the abstract namespace."""
    for address in (f"{tmp_path}/notify", f"\0{tmp_path}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
            notify(READY)
            assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nobody/listens", "/" + "x" * 200])
def test_nobody_who_listens_is_no_failure(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry serves all the same."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY)
