# SPDX-License-Identifier: Apache-2.0
"""dockerd and containerd, started by hand: no service, no bridge, no rule of a firewall."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.clients.commands import execute, wait_until

#: Where tools/go-tools puts what the distribution has older versions of.
CURRENT = Path(os.environ.get("BUILDSET_TEST_CACHE", "")) / "go" / "current"
#: The state of the current containerd and dockerd, apart from that of the distribution's.
STATE = Path("/run/current")
CONTAINERD_SOCKET = STATE / "containerd.sock"
DOCKER_HOST = f"unix://{STATE}/docker.sock"

#: What every dockerd has here.
OPTIONS = ["--iptables=false", "--bridge=none", "--ip-forward=false"]
#: An overlay on the overlay of the enclosed machine does not work: each has another way around it.
STORAGE = ["--storage-driver=vfs"]
CURRENT_STORAGE = ["--storage-driver=native", "--ip6tables=false"]
_CONTAINERD = """
version = 3
root = "{state}/containerd"
state = "{state}/containerd.state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
# An overlay on the overlay of the enclosed machine does not work.
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/amd64"
snapshotter = "native"
"""
#: With its images in containerd, docker looks for the CA of a mirror in daemon.json where that of
#: docker.io itself would be; in containerd's own kind of file a mirror has a CA of its own.
_HOSTS = """
server = "https://registry-1.docker.io"
[host."https://{mirror}"]
capabilities = ["pull", "resolve"]
ca = "/etc/docker/certs.d/{mirror}/ca.crt"
"""


@contextmanager
def running(log: Path, mirror: str) -> Iterator[None]:
    """Run the distribution's dockerd, which starts containerd, with a mirror of Docker Hub."""
    settings = Path("/etc/docker/daemon.json")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"registry-mirrors": [f"https://{mirror}"]}))
    with process(log, "dockerd", *STORAGE, *OPTIONS) as started:
        wait_for(started, log, "docker", "version")
        yield


@contextmanager
def running_current(folder: Path, mirror: str) -> Iterator[None]:
    """Run the current dockerd on the current containerd, in which it stores its images."""
    STATE.mkdir()
    config, settings = folder / "containerd.toml", folder / "daemon.json"
    config.write_text(_CONTAINERD.format(state=STATE, socket=CONTAINERD_SOCKET))
    settings.write_text("{}")
    hosts = Path("/etc/docker/certs.d/docker.io/hosts.toml")
    hosts.parent.mkdir(parents=True)
    hosts.write_text(_HOSTS.format(mirror=mirror))
    options: list[str | Path] = [
        *("--config-file", settings, "--containerd", CONTAINERD_SOCKET, "--host", DOCKER_HOST),
        *("--data-root", STATE / "docker", "--exec-root", STATE / "docker.state"),
        *("--pidfile", STATE / "docker.pid"),
        *CURRENT_STORAGE,
        *OPTIONS,
    ]
    logs = folder / "containerd.log", folder / "dockerd-current.log"
    with process(logs[0], CURRENT / "containerd", "--config", config) as containerd:
        ctr = CURRENT / "ctr", "--address", CONTAINERD_SOCKET, "version"
        wait_for(containerd, logs[0], *ctr)
        with process(logs[1], CURRENT / "dockerd", *options) as docker:
            wait_for(docker, logs[1], "docker", "--host", DOCKER_HOST, "version")
            yield


def built(tool: str) -> str:
    """Tell which version of a tool tools/go-tools has built."""
    (stamp,) = CURRENT.parent.glob(f"*/.{tool}")
    return stamp.read_text().strip().rpartition("@")[2]


@contextmanager
def process(
    log: Path, *words: str | Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon, with further variables in its environment, and end it."""
    environment = {**os.environ, **(variables or {})}
    if CURRENT in Path(words[0]).parents:
        # Where it finds what it runs itself.
        environment["PATH"] = f"{CURRENT}{os.pathsep}{environment['PATH']}"
    with log.open("w") as output:
        started = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
        try:
            yield started
        finally:
            started.terminate()
            started.wait(60)


def wait_for(started: subprocess.Popen[bytes], log: Path, *words: str | Path) -> None:
    """Wait until a client of a daemon gets an answer."""

    def answers() -> bool:
        assert started.poll() is None, log.read_text()
        return execute(*words).returncode == 0

    wait_until(answers, " ".join(map(str, words)))
