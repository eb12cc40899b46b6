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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import units
from .edits import Edit
from .formats import toml
from .node import ManagedNode
from .registry import Address, RegistryFacts, ip_address
from .units import Unit

HTTPS_PROXY, NO_PROXY = "HTTPS_PROXY", "NO_PROXY"
#: The files that give a shell its environment, for whoever looks for a variable.
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
    place = units.first_with(node, places, HTTPS_PROXY) or "the environment of this task"
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


def of_daemon(unit: Unit) -> Environment:
    """Tell the environment of a daemon, or what its unit gives it where it does not run."""
    place = units.first_with(unit.node, unit.files, HTTPS_PROXY)
    variables = unit.node.environment(unit.program) or unit.environment
    passed = {name[len(unit.prefix) :]: variables[name] for name in _passed(unit, variables)}
    return Environment(place or f"the environment of {unit.program}", {**variables, **passed})


def _passed(unit: Unit, variables: Mapping[str, str]) -> list[str]:
    return [name for name in variables if unit.prefix and name.startswith(unit.prefix)]


def bypass(unit: Unit, client: str, registry: RegistryFacts) -> list[Edit]:
    """Have a daemon of the node ask the registry itself where it would ask a proxy."""
    direct, known = hosts(registry), of_daemon(unit)
    if unit.node.exists(unit.variables_file(client)):
        # What we have added to it is no reason to take it away.
        known = known.without(direct)
    if not any(map(known.through, registry.addresses)):
        return []
    prefix = unit.prefix if _passed(unit, known.variables) else ""
    return unit.give(client, f"{prefix}{NO_PROXY}={known.with_direct(direct)}\n")
