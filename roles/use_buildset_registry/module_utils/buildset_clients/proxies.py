# SPDX-License-Identifier: Apache-2.0
"""Proxies of the node's environment, which would be asked for the registry in place of itself.

The clients are written in Go, and go by HTTPS_PROXY and NO_PROXY of their own environment (package
golang.org/x/net/http/httpproxy). A proxy knows nothing of a registry within the node's network; its
refusal looks like that of a mirror, and the client asks the public registry.

A daemon of the node gets the registry's names into its NO_PROXY by a file of ours, which a drop-in
of its unit names: systemd takes EnvironmentFile= after every Environment=, and the last of them. A
user's shell is not ours to change, and has begun already: where it is at fault, that is told.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import files
from .edits import Edit, own
from .formats import toml
from .node import ManagedNode
from .registry import Address, RegistryFacts, ip_address

HTTPS_PROXY, NO_PROXY = "HTTPS_PROXY", "NO_PROXY"
_FILE = "buildset-registry.env"
#: Sorts after the drop-ins that people have: http-proxy.conf, proxy.conf.
_DROP_IN = "/etc/systemd/system/{}.service.d/zz-buildset-registry.conf"
_UNITS = ("/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system")
#: The files that give a unit or a shell its environment, for whoever looks for a variable.
_OF_UNIT = ("/etc/default/{}", "/etc/sysconfig/{}", "/etc/conf.d/{}")
_OF_SHELL = ("/etc/environment", "/etc/profile", "/etc/bash.bashrc", "/etc/bashrc")
_ENGINE = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
_OF_USER = (".ssh/environment", ".profile", ".bash_profile", ".bashrc")


@dataclass(frozen=True)
class Environment:
    """The variables that a client goes by, and the place to change them."""

    place: str
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> str:
        """Tell a variable's value: Go looks for the upper-case name first."""
        return self.variables.get(name) or self.variables.get(name.lower()) or ""

    def through(self, address: str) -> str:
        """Tell the proxy by which a client asks ``host:port``; empty where it asks that itself."""
        proxy = _host_of(self.get(HTTPS_PROXY))
        return "" if not proxy or excepted(self.get(NO_PROXY), address) else proxy

    def fault(self, address: str) -> str:
        """Say in one line that a proxy is in the way, and what to do; empty where none is."""
        proxy = self.through(address)
        if not proxy:
            return ""
        hint = f"add {address.rpartition(':')[0]} to {NO_PROXY} there"
        return f"proxy: {HTTPS_PROXY} of {self.place} has {proxy} asked for {address}; {hint}"

    def without(self, hosts: Sequence[str]) -> Environment:
        """Return it as it is without these in NO_PROXY."""
        left = [one for one in _items(self.get(NO_PROXY)) if one not in hosts]
        return Environment(self.place, {**self.variables, NO_PROXY: ",".join(left)})

    def with_direct(self, hosts: Sequence[str]) -> str:
        """Return the value of NO_PROXY that names these as well."""
        return ",".join(dict.fromkeys([*_items(self.get(NO_PROXY)), *hosts]))


def hosts(registry: RegistryFacts) -> list[str]:
    """Tell the names of the registry that are to be in NO_PROXY."""
    return list(dict.fromkeys(one.rpartition(":")[0] for one in registry.addresses))


def excepted(exceptions: str, address: str) -> bool:
    """Tell whether a value of NO_PROXY names ``host:port``, as httpproxy.Config has it."""
    host, _separator, port = address.rpartition(":")
    number = ip_address(host)
    if host == "localhost" or (number is not None and number.is_loopback):
        return True
    return any(_names(item.lower(), host.lower(), number, port) for item in _items(exceptions))


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _names(item: str, host: str, number: Address | None, port: str) -> bool:
    if item == "*":
        return True
    if "/" in item:
        try:
            return number is not None and number in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name, separator, item_port = item.rpartition(":")
    if not separator or not item_port.isdigit() or ip_address(item) is not None:
        name, item_port = item, ""
    if item_port not in ("", port):
        return False
    if number is not None:
        return bool(ip_address(name.strip("[]")) == number)
    name = name[1:] if name.startswith("*.") else name
    return host.endswith(name) if name.startswith(".") else _is_within(host, name)


def _is_within(host: str, name: str) -> bool:
    return host == name or host.endswith(f".{name}")


def _host_of(proxy: str) -> str:
    """Tell a proxy's address less the scheme, and the password that it may have."""
    return proxy.rpartition("://")[2].rpartition("@")[2].rstrip("/")


def of_task(node: ManagedNode, settings: Mapping[str, str] | None = None) -> Environment:
    """Tell the environment of the present user; ``settings`` hold where it has nothing."""
    homes = [f"{node.me.home}/{name}" for name in _OF_USER]
    scripts = sorted(node.real("/etc/profile.d").glob("*.sh"))
    places = [*_OF_SHELL, *(f"/etc/profile.d/{path.name}" for path in scripts), *homes]
    place = _first_with(node, places) or "the environment of this task"
    return Environment(place, {**(settings or {}), **os.environ})


def of_podman(node: ManagedNode) -> Environment:
    """Tell the environment of podman: the task's, then ``env`` of engine in containers.conf(5).

    Of a list the last file's counts; each file has a folder of drop-ins beside it.
    """
    words: list[Any] = []
    place = ""
    for path in [*_ENGINE, f"{node.me.home}/.config/containers/containers.conf"]:
        drop_ins = sorted(node.real(f"{path}.d").glob("*.conf"))
        for one in (path, *(f"{path}.d/{found.name}" for found in drop_ins)):
            table = toml.get(toml.read(node, one), ["engine"]) if node.exists(one) else {}
            if table.get("env"):
                words, place = table["env"], one
    parts = [str(word).partition("=") for word in words]
    settings = {name: value for name, separator, value in parts if separator}
    known = of_task(node)
    if known.get(HTTPS_PROXY) or not settings:
        return of_task(node, settings)
    return Environment(place, {**settings, **known.variables})


def of_daemon(node: ManagedNode, program: str, unit: str) -> Environment:
    """Tell the environment of a daemon, or what its unit gives it where it does not run."""
    named = _unit_files(node, unit)
    place = _first_with(node, named) or f"the environment of {program}"
    running = node.environment(program)
    return Environment(place, running or _given(node, named))


def _first_with(node: ManagedNode, places: Iterable[str]) -> str:
    """Find the file that sets the proxy."""
    for place in places:
        if re.search(rb"(?i)\bhttps_proxy=", _content(node, place)):
            return place
    return ""


def _unit_files(node: ManagedNode, unit: str) -> list[str]:
    """Tell the files of a unit, and those that they name, in the order in which they count."""
    found = [f"{folder}/{unit}.service" for folder in _UNITS]
    for folder in _UNITS:
        drop_ins = sorted(node.real(f"{folder}/{unit}.service.d").glob("*.conf"))
        found += [f"{folder}/{unit}.service.d/{path.name}" for path in drop_ins]
    found = [path for path in found if path != _DROP_IN.format(unit)]
    named = [name for path in found for name in _assigned(node, path, "EnvironmentFile")]
    usual = [pattern.format(unit) for pattern in _OF_UNIT]
    return list(dict.fromkeys([*found, *(name.lstrip("-") for name in named), *usual]))


def _given(node: ManagedNode, paths: Sequence[str]) -> dict[str, str]:
    """Read what a unit's files give; other files of it are named by them, and count last."""
    units = [path for path in paths if path.endswith((".service", ".conf"))]
    pairs = [pair for path in units for pair in _assigned(node, path, "Environment")]
    for path in (path for path in paths if path not in units):
        pairs += [
            re.sub(r"^export\s+", "", line.strip()) for line in _text(node, path).splitlines()
        ]
    parts = [pair.partition("=") for pair in pairs if re.match(r"\w+=", pair)]
    return {name: value.strip().strip("\"'") for name, _separator, value in parts}


def _assigned(node: ManagedNode, path: str, key: str) -> list[str]:
    """Return the words that a unit's file assigns to a key."""
    words = []
    for line in re.findall(rf"(?m)^\s*{key}\s*=(.*)$", _text(node, path)):
        try:
            words += shlex.split(line)
        except ValueError:
            continue
    return words


def _text(node: ManagedNode, path: str) -> str:
    return _content(node, path).decode("utf-8", "replace")


def _content(node: ManagedNode, path: str) -> bytes:
    real = node.real(path)
    return (files.read(real) or b"") if os.access(real, os.R_OK) and real.is_file() else b""


def environment_file(client: str) -> str:
    """Tell the file of variables for a client's daemon."""
    return f"/etc/{client}/{_FILE}"


def variables(client: str, unit: str, content: str, secret: bool = False) -> list[Edit]:
    """Give the daemon of a unit variables, which may hold a password."""
    path = environment_file(client)
    mode = 0o600 if secret else 0o644
    drop_in = f"[Service]\nEnvironmentFile={path}\n".encode()
    return [
        own(client, path, content.encode(), mode=mode, secret=secret, action="restart"),
        own(client, _DROP_IN.format(unit), drop_in, action="restart"),
    ]


def bypass(
    node: ManagedNode, client: str, program: str, unit: str, registry: RegistryFacts
) -> list[Edit]:
    """Have a daemon of the node ask the registry itself where it would ask a proxy."""
    direct, path = hosts(registry), environment_file(client)
    known = of_daemon(node, program, unit)
    if node.exists(path):  # what we have added to it is no reason to take it away
        known = known.without(direct)
    if not node.is_root or not any(map(known.through, registry.addresses)):
        return []
    return variables(client, unit, f"{NO_PROXY}={known.with_direct(direct)}\n")
