# SPDX-License-Identifier: Apache-2.0
"""The servers themselves: each is what the tests take it for, and leaves nothing behind."""

from __future__ import annotations

import getpass
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.process import listens, running
from tests.stores.programs import InstallError, _run


@pytest.mark.parametrize("name", ["minio", "versitygw"])
def test_a_server_of_s3_refuses_who_does_not_sign(object_stores: ObjectStores, name: str) -> None:
    """A bucket of a test's own is there and closed."""
    server = getattr(object_stores, name)
    answer = httpx.get(f"{server.url}/{server.bucket()}", trust_env=False)
    assert answer.status_code == 403


def test_google_s_protocol_has_generations(object_stores: ObjectStores) -> None:
    """What is to be made only where it is absent is made once."""
    server = object_stores.fake_gcs
    url = f"{server.url}/upload/storage/v1/b/{server.bucket()}/o"
    query = {"uploadType": "media", "name": "one", "ifGenerationMatch": "0"}
    with httpx.Client(trust_env=False) as client:
        statuses = [client.post(url, params=query, content=b"1").status_code for _ in range(2)]
    assert statuses == [200, 412]


def test_azure_s_protocol_takes_the_account_s_key_alone(object_stores: ObjectStores) -> None:
    """A container of a test's own is there and closed."""
    server = object_stores.azurite
    name = server.container()
    assert server.ask("GET", f"/{name}", restype="container").status_code == 200
    url = f"{server.url}/{name}?restype=container"
    assert httpx.get(url, trust_env=False).status_code in (401, 403, 404)


def test_swift_takes_who_keystone_knows(object_stores: ObjectStores) -> None:
    """The user with a role writes, the other reads nothing, nor does a stranger."""
    server = object_stores.swift
    path = f"/{server.container()}/one"
    assert server.ask("PUT", path, content=b"1").status_code == 201
    assert server.ask("GET", path).content == b"1"
    guest = server.keystone.token(server.guest, server.password, server.project)
    assert server.ask("GET", path, headers={"X-Auth-Token": guest}).status_code == 403
    assert server.ask("GET", path, headers={"X-Auth-Token": "none"}).status_code == 401


def test_a_server_is_gone_with_whom_it_served(tmp_path: Path) -> None:
    """Nobody listens at its port when it was left."""
    port = free_port()
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", getpass.getuser()]
    with running(command, tmp_path / "memcached.log", listens(port)):
        assert listens(port)()
    assert not listens(port)()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its last words are in the message."""
    command = ["sh", "-c", "echo no such disk >&2; exit 3"]
    with (
        pytest.raises(RuntimeError, match="ended with code 3; it said: no such disk"),
        running(command, tmp_path / "store.log", lambda: False),
    ):
        pass


def test_an_installation_that_fails_is_tried_twice_and_told_in_a_line(tmp_path: Path) -> None:
    """A download that broke off once is no reason to fail."""
    tried = tmp_path / "tried"
    _run(["sh", "-c", f"[ -e {tried} ] || {{ touch {tried}; exit 1; }}"])
    with pytest.raises(InstallError, match=r"failed, code 4: no route"):
        _run(["sh", "-c", "echo much; echo no route >&2; exit 4"])
    with pytest.raises(InstallError, match="no-such-program is missing"):
        _run(["no-such-program"])
