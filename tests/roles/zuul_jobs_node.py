#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What roles of zuul-jobs write on a node, by one program: it is run there, as root.

usage: zuul_jobs_node.py USER HOME <FACTS. Prints the files that have changed.

After ``ensure-docker``, ``ensure-podman`` and ``use-buildset-registry``: JSON is combined and
sorted as by ``to_nice_json``, TOML is read as a whole and written anew in one spelling, and docker
is restarted in any case.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomllib  # type: ignore[import-not-found, unused-ignore]  # the tiers run on 3.11

ALIAS = "zuul-jobs.buildset-registry"
NAMESPACES = ("docker.io", "quay.io")
UNIT = '[Service]\nEnvironment="DOCKER_MIN_API_VERSION=1.22"\n'
CHANGED: list[str] = []


def write(path: Path, text: str, mode: int = 0o644, user: str = "root") -> None:
    """Write a file that differs, and make its folder."""
    missing = [folder for folder in (path.parent, *path.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        shutil.chown(folder, user, user)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(mode)
        shutil.chown(path, user, user)
        CHANGED.append(str(path))


def combine(before: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Combine dictionaries as Ansible's filter does with ``recursive=True``."""
    made = dict(before)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = combine(made[key], value) if both else value
    return made


def update(path: Path, changes: Mapping[str, Any], mode: int = 0o644, user: str = "root") -> None:
    """Combine a file of JSON with something."""
    before = json.loads(path.read_text()) if path.exists() else {}
    write(path, json.dumps(combine(before, changes), indent=4, sort_keys=True), mode, user)


def is_flat(value: Any) -> bool:
    """Tell whether TOML has it in one line."""
    nested = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return not (isinstance(value, dict) or nested)


def toml_lines(tree: Mapping[str, Any], names: tuple[str, ...] = ()) -> list[str]:
    """Write TOML in one spelling; comments are lost."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in tree.items() if is_flat(value)]
    for key, value in tree.items():
        bare = re.fullmatch("[A-Za-z0-9_-]+", key)
        inner = (*names, key if bare else json.dumps(key))
        brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
        for one in () if is_flat(value) else value if isinstance(value, list) else (value,):
            lines += ["", ".".join(inner).join(brackets), *toml_lines(one, inner)]
    return lines


def rewrite(path: Path, address: str) -> None:
    """Put a mirror before all others of each registry."""
    before = tomllib.loads(path.read_text()) if path.exists() else {}
    for name in NAMESPACES:
        location = address if name == "docker.io" else f"{address}/{name}"
        if path.name == "buildkitd.toml":
            mirrors = before.setdefault("registry", {}).setdefault(name, {})
            put_first(mirrors.setdefault("mirrors", []), location)
            continue
        entries = before.setdefault("registry", [])
        found = [one for one in entries if one["prefix"] == name]
        if not found:
            last = {"location": name}
            found = [{"prefix": name, "location": name, "mirror": [last]}]
            entries += found
        put_first(found[0].setdefault("mirror", []), {"location": location})
    write(path, "\n".join(toml_lines(before)).lstrip("\n") + "\n")


def put_first(mirrors: list[Any], mirror: Any) -> None:
    """Put a mirror first, unless it is."""
    if mirrors[:1] != [mirror]:
        mirrors.insert(0, mirror)


def ensure(user: str, home: Path) -> None:
    """Have docker with its group, and podman without root."""
    subprocess.run(["groupadd", "--force", "docker"], check=True)
    subprocess.run(["usermod", "--append", "--groups", "docker", user], check=True)
    update(Path("/etc/docker/daemon.json"), {"mtu": 1400})
    write(Path("/etc/systemd/system/docker.service.d/image_protocol_env.conf"), UNIT)
    text = '[engine]\ncgroup_manager = "cgroupfs"\n'
    write(home / ".config" / "containers" / "containers.conf", text, user=user)


def use(facts: Mapping[str, Any], user: str, home: Path) -> None:
    """Configure the clients."""
    address = f"{ALIAS}:{facts['port']}"
    hosts, line = Path("/etc/hosts"), f"{facts['host']}\t{ALIAS}\n"
    known = hosts.read_text()
    write(hosts, known if line in known.splitlines(keepends=True) else known + line)
    certificate = Path(f"/usr/local/share/ca-certificates/{ALIAS}.crt")
    write(certificate, facts["cert"])
    if str(certificate) in CHANGED:
        subprocess.run(["update-ca-certificates"], check=True, capture_output=True)
    mirrors = {"registry-mirrors": [f"https://{address}/"]}
    update(Path("/etc/docker/daemon.json"), mirrors)
    rewrite(Path("/etc/containers/registries.conf"), address)
    rewrite(Path("/etc/buildkit/buildkitd.toml"), address)
    pair = f"{facts['username']}:{facts['password']}"
    login = {"auth": base64.b64encode(pair.encode()).decode()}
    auths = {"https://index.docker.io/v1/": login, address: login}
    update(home / ".docker" / "config.json", {"auths": auths}, 0o600, user)


def main() -> None:
    """Do all of it, in the order in which jobs do."""
    user, home = sys.argv[1], Path(sys.argv[2])
    facts = json.load(sys.stdin)
    ensure(user, home)
    use(facts, user, home)
    subprocess.run(["restart-docker"], check=True, capture_output=True)
    sys.stdout.write("\n".join(CHANGED))


if __name__ == "__main__":
    main()
