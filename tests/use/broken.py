# SPDX-License-Identifier: Apache-2.0
"""Clients of this host that are broken in their own files, one after the other, and the errors.

The files are as the role has left them, and are again afterwards. The facts of the registry and
what it stands in for come by standard input; each fault and what is said of it go to standard
output. It fails where another layer is named than the one that is at fault, or where BuildKit
keeps something of what it was tried by.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buildset_clients.canary import run
from buildset_clients.errors import ClientError
from buildset_clients.node import ManagedNode
from buildset_clients.registry import Setup

#: A certificate of another authority; a port at which nothing listens.
STALE, DEAD = "/usr/local/share/ca-certificates/public.crt", 9
PROXY = {"HTTPS_PROXY": f"http://198.51.100.13:{DEAD}", "NO_PROXY": "localhost"}
HOSTS = "/etc/{}/certs.d/quay.io/hosts.toml"
BUILDKIT, LOGINS = "/etc/buildkit/buildkitd.toml", "/root/.docker/config.json"
CONTAINERD = "/etc/containerd/config.toml"
#: The daemons that read their files when they start.
STARTED = {BUILDKIT: "buildkitd", CONTAINERD: "containerd"}


@dataclass(frozen=True)
class Fault:
    """A fault of a file, and the words that are to be said; ``{0}`` is the registry's address."""

    client: str
    what: str
    path: str
    pattern: str
    text: str
    said: str
    daemon: str = ""
    """The daemon that is started with a proxy, where the files are whole."""


def of_hosts(client: str, program: str, path: str) -> Iterator[Fault]:
    """Break the hosts.toml of quay.io."""
    begin = f"canary: {program}, quay.io:"
    missing = f"{begin} configuration: {{0}} is not its mirror, {path}"
    pattern, dead = r"https://([\d.]+):5000", rf"https://\1:{DEAD}"
    yield Fault(client, "mirror at a dead port", path, pattern, dead, f"{missing} names ")
    pattern = r"(?s)\[host.*"
    yield Fault(client, "mirror entry removed", path, pattern, "", f"{missing} has none")
    stale = f"{begin} TLS: what is in {path} does not verify {{0}}"
    yield Fault(client, "stale CA", path, r"ca = .*", f'ca = "{STALE}"', stale)


def of_cri() -> Iterator[Fault]:
    """Break what CRI goes by, in its hosts.toml and in containerd's own file."""
    path = HOSTS.format("containerd")
    yield from of_hosts("containerd", "crictl", path)
    begin = "canary: crictl, docker.io: configuration: {0} is not its mirror,"
    pattern, other = r'config_path = "[^"]+"', 'config_path = "/etc/containerd/other.d"'
    named = f"{begin} /etc/containerd/other.d/docker.io/hosts.toml has none"
    yield Fault("containerd", "another config_path", CONTAINERD, pattern, other, named)
    none = f"{begin} containerd config dump of {CONTAINERD}, without config_path, has none"
    yield Fault("containerd", "no config_path", CONTAINERD, pattern, 'config_path = ""', none)


def of_buildkit() -> Iterator[Fault]:
    """Break buildkitd.toml, and the credentials, which buildctl has for the daemon."""
    begin = "canary: buildctl, docker.io:"
    missing = f"{begin} configuration: {{0}} is not its mirror, {BUILDKIT}"
    pattern, dead = r'mirrors = \["([\d.]+):5000', rf'mirrors = ["\1:{DEAD}'
    yield Fault("buildkit", "mirror at a dead port", BUILDKIT, pattern, dead, f"{missing} names ")
    pattern = r"(?m)^mirrors = .*$"
    yield Fault("buildkit", "mirror entry removed", BUILDKIT, pattern, "", f"{missing} has none")
    stale = f"{begin} TLS: what is in {BUILDKIT} does not verify {{0}}"
    yield Fault("buildkit", "stale CA", BUILDKIT, r"ca = .*", f'ca = ["{STALE}"]', stale)
    helper, failing = f"{begin} auth: a credential helper fails", '{"credsStore": "not-there"}'
    yield Fault("buildkit", "failing credential helper", LOGINS, r"(?s).+", failing, helper)


def of_proxy(client: str, program: str, daemon: str) -> Fault:
    """Start a daemon with a proxy that nobody has."""
    said = f"canary: {program}, docker.io: proxy: HTTPS_PROXY of the environment of {daemon} has "
    return Fault(client, "proxy of the daemon", "", "", "", said, daemon)


FAULTS = [
    *of_hosts("docker", "docker", HOSTS.format("docker")),
    of_proxy("docker", "docker", "dockerd"),
    *of_hosts("containerd", "ctr", HOSTS.format("containerd")),
    *of_cri(),
    *of_buildkit(),
    of_proxy("buildkit", "buildctl", "buildkitd"),
]


@contextmanager
def broken(fault: Fault) -> Iterator[None]:
    """Have a client broken, and mend it."""
    if fault.daemon:
        try:
            _restart(fault.daemon, PROXY)
            yield
        finally:
            _restart(fault.daemon, {})
        return
    path = Path(fault.path)
    before = path.read_text()
    after = re.sub(fault.pattern, fault.text, before)
    assert after != before, fault
    try:
        _write(path, after)
        yield
    finally:
        _write(path, before)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    if str(path) in STARTED:
        _restart(STARTED[str(path)], {})


def _restart(daemon: str, variables: dict[str, str]) -> None:
    command = ["restart-daemon", daemon]
    subprocess.run(command, check=True, stdout=sys.stderr, env={**os.environ, **variables})


def attempt(setup: Setup, client: str) -> str:
    """Try a client by the canary, as it is: nothing is configured before."""
    try:
        return f"well: {', '.join(run.prove(ManagedNode.here([]), setup, [client]))}"
    except ClientError as error:
        return str(error)


def build() -> None:
    """Leave something of a user's in BuildKit's cache."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        folders = [f"--local={name}={folder}" for name in ("context", "dockerfile")]
        command = ["buildctl", "build", "--frontend=dockerfile.v0", "--progress=plain", *folders]
        subprocess.run(command, check=True, stdout=sys.stderr)


def kept() -> list[str]:
    """Tell what BuildKit keeps, of its cache and of the builds that there were."""
    cache = subprocess.run(["buildctl", "du", "--verbose"], capture_output=True, check=True)
    builds = ["buildctl", "debug", "histories", "--format", "{{.Record.Ref}}"]
    records = subprocess.run(builds, capture_output=True, check=True).stdout.decode().split()
    return sorted([*re.findall(r"(?m)^ID:\s*(\w+)", cache.stdout.decode()), *records])


def main() -> int:
    """Try all of them whole, and then each with its faults; BuildKit keeps nothing of it."""
    build()
    before = kept()
    right = attempt_all()
    same = before == kept()
    mark = "" if same else " WRONG"
    sys.stdout.write(f"buildkit keeps what it had before, {len(before)} records{mark}\n")
    return 0 if right and same else 1


def attempt_all() -> bool:
    """Write what is said of each; tell whether all of it is right."""
    facts, namespaces = json.load(sys.stdin)
    setup = Setup.read(facts, "", namespaces, [])
    right = True
    for client in dict.fromkeys(fault.client for fault in FAULTS):
        said = attempt(setup, client)
        right &= said.startswith("well: ")
        sys.stdout.write(f"{client}, as the role has left it: {said}\n")
    for fault in FAULTS:
        with broken(fault):
            said = attempt(setup, fault.client)
        # Each program of a client says its own.
        each = re.split("; (?=canary: )", said)
        good = any(one.startswith(fault.said.format(setup.registry.pull)) for one in each)
        right &= good
        mark = "" if good else " WRONG"
        sys.stdout.write(f"{fault.client}, {fault.what}:{mark} {said}\n")
    return right


if __name__ == "__main__":
    sys.exit(main())
