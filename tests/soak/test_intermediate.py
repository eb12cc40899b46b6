# SPDX-License-Identifier: Apache-2.0
"""An intermediate registry, made by the role and upgraded while skopeo, podman and docker use it.

One host with its images on a disk, two that share Swift with Keystone, and three that share MinIO;
several are behind HAProxy. The hosts are folders of this machine, with a program, a port and a
process each, and a certificate that Pebble issues. (Hosts with addresses, root and systemd of their
own are in tests/roles/test_booted.py; installing what an object store needs takes an index, which
hosts of a lab cannot reach.)
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acme.pebble import Pebble, make
from tests.ports import free_port
from tests.roles import harness
from tests.roles.harness import Desk
from tests.soak.transfers import clients, looping
from tests.stores.fixtures import ObjectStores
from tests.stores.process import listens, running
from tests.waiting import wait_until

#: Hosts by the storage that they share.
HOSTS = {"disk": ("one",), "swift": ("one", "two"), "minio": ("one", "two", "three")}
PASSWORD = "correct horse battery"
PROXY = """\
defaults
    mode tcp
    timeout connect 2s
    timeout client 15m
    timeout server 15m
    retries 3
    option redispatch 1
frontend registry
    bind 127.0.0.1:{port}
    default_backend replicas
frontend challenges
    bind :{challenges}
    default_backend answers
backend replicas
    balance leastconn
    option httpchk GET /readyz
    default-server check check-ssl verify none inter 500ms fall 1 rise 1
{replicas}
backend answers
    default-server check inter 500ms
{answers}
"""


class Hosts:
    """The hosts, the proxy in front of them, and the playbook."""

    def __init__(self, folder: Path, pebble: Pebble, kind: str, stores: ObjectStores) -> None:
        self.folder, self.pebble, self.names = folder, pebble, HOSTS[kind]
        alone = len(self.names) == 1
        self.port = free_port()
        self.ports = {
            host: (self.port, pebble.http_port) if alone else (free_port(), free_port())
            for host in self.names
        }
        self.desk = Desk(folder, harness.ansible_environment("newest"), seconds=600)
        self.desk.home.mkdir(parents=True)
        hosts = {
            host: {
                "ansible_connection": "local",
                "buildset_registry_venv": str(folder / host / "venv"),
                "intermediate_registry_root": str(folder / host / "root"),
                "intermediate_registry_port": port,
                "intermediate_registry_acme": self.acme(challenges),
            }
            for host, (port, challenges) in self.ports.items()
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        for host in self.names:
            (folder / host).mkdir()
        self.variables: dict[str, Any] = {
            "intermediate_registry_host": "localhost",
            "intermediate_registry_storage": storage_of(kind, stores),
            "intermediate_registry_supervisor": "process",
            "intermediate_registry_users": [
                {"name": "zuul", "password": PASSWORD, "access": "write"}
            ],
        }

    def acme(self, port: int) -> dict[str, Any]:
        """Return the section of one host."""
        server = {"directory": self.pebble.directory, "ca": str(self.pebble.ca)}
        return {"names": ["localhost"], "port": port, "retry_seconds": 1, **server}

    def play(self, **more: Any) -> dict[str, dict[str, int]]:
        """Run the role on all hosts; returns the counts of the recap."""
        plays: list[dict[str, Any]] = [
            {"hosts": "all", "gather_facts": False, "roles": ["run_intermediate_registry"]}
        ]
        inventory = str(self.folder / "hosts.yml")
        playbook = self.desk.write("play.yml", plays)
        run = self.desk.playbook(playbook, "-i", inventory, **{**self.variables, **more})
        assert run.code == 0, run.output[-4000:]
        assert PASSWORD not in run.output
        lines = [line for line in run.output.splitlines() if "unreachable=" in line]
        return {
            line.split()[0]: {
                name: int(count)
                for name, count in (word.split("=") for word in line.split() if "=" in word)
            }
            for line in lines
        }

    @contextmanager
    def proxied(self) -> Iterator[None]:
        """Run HAProxy in front of them."""
        rows = [
            "\n".join(
                f"    server {host} localhost:{self.ports[host][which]}" for host in self.names
            )
            for which in (0, 1)
        ]
        config = self.folder / "haproxy.cfg"
        text = PROXY.format(
            port=self.port, challenges=self.pebble.http_port, replicas=rows[0], answers=rows[1]
        )
        config.write_text(text)
        log = self.folder / "haproxy.log"
        with running(["haproxy", "-db", "-f", str(config)], log, listens(self.port)):
            yield

    def end(self) -> None:
        """End those that still run."""
        for host in self.names:
            command = self.folder / host / "venv" / "bin" / "buildset-registry"
            if command.exists():
                root = self.folder / host / "root"
                subprocess.run([command, "down", "--purge", "--root", root], capture_output=True)


def storage_of(kind: str, stores: ObjectStores) -> str | dict[str, Any]:
    """Return where the hosts keep images."""
    if kind == "disk":
        return "data"
    if kind == "swift":
        return {"swift": stores.swift.settings(stores.swift.container())}
    return {"s3": stores.minio.settings(stores.minio.bucket())}


@pytest.fixture(params=HOSTS)
def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, object_stores: ObjectStores
) -> Iterator[Hosts]:
    """Hosts that have nothing yet."""
    pebble = make(tmp_path / "pebble", free_port())
    made = Hosts(tmp_path / "hosts", pebble, request.param, object_stores)
    alone = len(made.names) == 1
    with pebble.serving(), nullcontext() if alone else made.proxied():
        yield made
    made.end()


@pytest.mark.timeout(1500)
def test_an_upgrade_breaks_no_transfer(hosts: Hosts, tmp_path: Path) -> None:
    """Of any client; a second run changes nothing; undo."""
    first = hosts.play()
    assert all(counts["changed"] for counts in first.values()), first
    again = hosts.play()
    assert {counts["changed"] for counts in again.values()} == {0}, again
    address, login = f"localhost:{hosts.port}", f"zuul:{PASSWORD}"
    python = str(hosts.desk.environment / "bin" / "python")
    more = {"buildset_registry_python": python}
    settings = {"limits": {"shutdown_seconds": 40}}
    with clients(tmp_path / "clients", address, login, hosts.pebble.root) as made:
        made["skopeo"].once()
        with looping({name: client.once for name, client in made.items()}) as (counts, ended):
            began = time.monotonic()
            upgraded = hosts.play(intermediate_registry_settings=settings, **more)
            seconds, before = time.monotonic() - began, dict(counts)
            # One that ran while the last host ended, and another one.
            wait_until(
                lambda: ended.is_set() or all(counts[one] > before[one] + 1 for one in counts),
                "each client goes on",
                300,
            )
    print(f"upgraded {upgraded} in {seconds:.0f} s; pushes and pulls meanwhile: {before}")
    assert all(one["changed"] >= 2 for one in upgraded.values()), upgraded
    last = hosts.play(intermediate_registry_settings=settings, **more)
    assert {one["changed"] for one in last.values()} == {0}, last
    hosts.play(intermediate_registry_state="absent", **more)
    assert not [host for host in hosts.names if (hosts.folder / host / "root").exists()]
