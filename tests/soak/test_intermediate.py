# SPDX-License-Identifier: Apache-2.0
"""Three hosts of an intermediate registry behind HAProxy, made by the role, and upgraded in use.

The hosts are folders of this machine, with a program, a port and a process each. They share MinIO,
and a certificate that Pebble issues.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acme.pebble import Pebble, make
from tests.interop.content import digest_of
from tests.ports import free_port
from tests.roles import harness
from tests.roles.harness import Desk
from tests.stores.fixtures import ObjectStores
from tests.stores.process import listens, running

HOSTS = ("one", "two", "three")
PASSWORD = "correct horse battery"
LAYER = os.urandom(24 * 1024 * 1024)
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

    def __init__(self, folder: Path, pebble: Pebble, storage: dict[str, Any]) -> None:
        self.folder, self.pebble = folder, pebble
        self.port = free_port()
        self.ports = {host: (free_port(), free_port()) for host in HOSTS}
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
        for host in HOSTS:
            (folder / host).mkdir()
        self.variables: dict[str, Any] = {
            "intermediate_registry_host": "localhost",
            "intermediate_registry_storage": storage,
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
            "\n".join(f"    server {host} localhost:{self.ports[host][which]}" for host in HOSTS)
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
        for host in HOSTS:
            command = self.folder / host / "venv" / "bin" / "buildset-registry"
            if command.exists():
                root = self.folder / host / "root"
                subprocess.run([command, "down", "--purge", "--root", root], capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path, object_stores: ObjectStores) -> Iterator[Hosts]:
    """Hosts that have nothing yet."""
    pebble = make(tmp_path / "pebble", free_port())
    storage = {"s3": object_stores.minio.settings(object_stores.minio.bucket())}
    made = Hosts(tmp_path / "hosts", pebble, storage)
    with pebble.serving(), made.proxied():
        yield made
    made.end()


@contextmanager
def looping(*work: Callable[[], None]) -> Iterator[list[int]]:
    """Do things again and again, side by side; none may fail. Yields how often each was done."""
    done, counts, failures = threading.Event(), [0] * len(work), []

    def loop(number: int) -> None:
        while not done.is_set():
            try:
                work[number]()
                counts[number] += 1
            except Exception as error:
                failures.append(f"{time.strftime('%X')} {error}")

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


def skopeo(*words: str) -> None:
    """Copy an image with skopeo, without its own tries."""
    done = subprocess.run(["skopeo", "copy", "--quiet", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(1500)
def test_an_upgrade_of_three_hosts_breaks_no_transfer(hosts: Hosts, tmp_path: Path) -> None:
    """skopeo pushes and pulls by the proxy meanwhile; a second run changes nothing; undo."""
    first = hosts.play()
    assert all(counts["changed"] for counts in first.values()), first
    again = hosts.play()
    assert [counts["changed"] for counts in again.values()] == [0, 0, 0], again
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_text(hosts.pebble.root)
    image, login = f"localhost:{hosts.port}/org/app", f"zuul:{PASSWORD}"
    certs = str(tmp_path / "certs")
    _write_image(tmp_path / "image")
    numbers = iter(range(10_000))

    def push() -> None:
        tag = f"docker://{image}:{next(numbers)}"
        source = f"oci:{tmp_path / 'image'}:latest"
        skopeo("--dest-creds", login, "--dest-cert-dir", certs, source, tag)

    def pull() -> None:
        target = tmp_path / f"pulled{next(numbers)}"
        source = f"docker://{image}:0"
        skopeo("--src-creds", login, "--src-cert-dir", certs, source, f"oci:{target}:latest")
        subprocess.run(["rm", "-r", str(target)], check=True)

    push()
    with looping(push, pull) as counts:
        python = str(hosts.desk.environment / "bin" / "python")
        more = {"buildset_registry_python": python}
        settings = {"limits": {"shutdown_seconds": 40}}
        upgraded = hosts.play(intermediate_registry_settings=settings, **more)
        before = list(counts)
        deadline = time.monotonic() + 60
        while any(now < old + 2 for now, old in zip(counts, before, strict=True)):
            assert time.monotonic() < deadline, counts
            time.sleep(0.2)
    print(f"upgraded {upgraded}; pushes and pulls meanwhile: {counts}")
    assert all(one["changed"] >= 2 for one in upgraded.values()), upgraded
    last = hosts.play(intermediate_registry_settings=settings, **more)
    assert [one["changed"] for one in last.values()] == [0, 0, 0], last
    hosts.play(intermediate_registry_state="absent", **more)
    assert not [host for host in HOSTS if (hosts.folder / host / "root").exists()]


def _write_image(folder: Path) -> None:
    """Write an image in the OCI layout."""

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = digest_of(content)
        path = folder / "blobs" / "sha256" / digest.partition(":")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        media_type = f"application/vnd.oci.image.{kind}+json"
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    layer = {**blob(LAYER, "x"), "mediaType": "application/vnd.oci.image.layer.v1.tar"}
    diff = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": diff}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config, "config.v1"),
        "layers": [layer],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
