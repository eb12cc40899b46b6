# SPDX-License-Identifier: Apache-2.0
"""k3s and RKE2: registries.yaml, from which they write the hosts.toml files of their containerd.

A registry that has an entry of its own there does not have that of ``"*"``: it is taken over.
"""

from __future__ import annotations

import copy
import re
from functools import partial
from pathlib import Path
from typing import Any

from .. import files
from ..edits import OWN, Edit, own
from ..errors import ClientError
from ..formats import yaml
from ..formats.json import part, wrong
from ..node import ManagedNode, option
from ..registry import CERTIFICATE_FILE, Namespace, Setup
from ..units import Unit

#: The beginning of variables that are for its containerd alone.
PASSED = "CONTAINERD_"
#: The units of a server, and of an agent.
UNITS = {"k3s": ("k3s", "k3s-agent"), "rke2": ("rke2-server", "rke2-agent")}
_EVERY = "*"
#: The option that names another registries.yaml, on the command line and in config.yaml.
_OPTION = "private-registry"
#: Templates for containerd 1 and 2; what has it read the hosts.toml files is in what they stand on.
_TEMPLATES = ("config.toml.tmpl", "config-v3.toml.tmpl")
_PATH = "config_path"
_READS = re.compile(
    rb"^[^#\n]*(?:config_path|PrivateRegistryConfig|template\s+\"base\")", re.MULTILINE
)
#: What YAML 1.1 has for true.
_TRUE = ("yes", "y", "on")


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure k3s."""
    return _edits("k3s", node, setup)


def rke2(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure RKE2, which is k3s in another folder."""
    return _edits("rke2", node, setup)


def _edits(client: str, node: ManagedNode, setup: Setup) -> list[Edit]:
    """Write registries.yaml; JSON is YAML as well, where there was no file."""
    folder = f"/etc/rancher/{client}"
    path, certificate = _settings(client, node, folder), f"{folder}/{CERTIFICATE_FILE}"
    _refuse_templates(client, node)
    rewrite = partial(_mirrored, setup, path, certificate)
    return [
        own(client, certificate, setup.registry.certificate),
        Edit(client, path, OWN, rewrite, mode=0o600, secret=True, action="restart"),
    ]


def _refuse_templates(client: str, node: ManagedNode) -> None:
    """Refuse a template of the containerd's own file by which that would read no hosts.toml."""
    for name in _TEMPLATES:
        path = f"/var/lib/rancher/{client}/agent/etc/containerd/{name}"
        content = (files.read(node.real(path)) or b"") if node.exists(path) else None
        if content is not None and not _READS.search(content):
            hint = 'begin it with {{ template "base" . }}'
            raise ClientError(f"{path}: has no {_PATH}, so registries.yaml is not read; {hint}")


def _settings(client: str, node: ManagedNode, folder: str) -> str:
    """Tell the file that it reads: the command line comes before config.yaml and its drop-ins."""
    named, unit = "", Unit.find(node, client, *UNITS[client])
    running = list(node.processes(client).values()) or [unit.configured]
    variables = node.environment(client) or unit.environment
    main = variables.get(f"{client.upper()}_CONFIG_FILE") or f"{folder}/config.yaml"
    for arguments in running:
        main = option(arguments, "config") or option(arguments, "c") or main
    drop_ins = sorted(node.real(f"{main}.d").glob("*.yaml"))
    for path in [main, *(f"{main}.d/{one.name}" for one in drop_ins)]:
        content = node.real(path).read_bytes() if node.exists(path) else b""
        # Most have no such setting, and need no reader of YAML for that.
        if _OPTION.encode() in content:
            named = str(yaml.load(content, path).get(_OPTION) or named)
    for arguments in running:
        named = option(arguments, _OPTION) or named
    return str(Path(folder, named or "registries.yaml"))


def _mirrored(setup: Setup, path: str, certificate: str, before: bytes | None) -> bytes:
    tree, registry = yaml.load(before, path), setup.registry
    mirrors, configs = (part(tree, name, path) for name in ("mirrors", "configs"))
    for name in mirrors:
        mirrors[name] = _mirror(mirrors, str(name), path)
    for namespace in setup.namespaces:
        mirrors[namespace.name] = _first(mirrors, namespace, path, f"https://{registry.pull}")
    for name, config in configs.items():
        _check(config, str(name), path)
    for address in registry.addresses:
        login = {"username": registry.username, "password": registry.password}
        configs[address] = {"auth": login, "tls": {"ca_file": certificate}}
    return yaml.dump({**tree, "mirrors": mirrors, "configs": configs}, path)


def _first(mirrors: dict[str, Any], namespace: Namespace, path: str, url: str) -> dict[str, Any]:
    """Put our endpoint before those of a registry, or those that stand for every one."""
    key = namespace.name if namespace.name in mirrors else _EVERY
    known = copy.deepcopy(mirrors.get(key)) or {}
    if known.get("rewrite"):
        raise ClientError(
            f"{path}: mirrors.{key} has rewrite, which k3s applies to every endpoint, so to the "
            f"buildset's registry too (k3s-io/k3s#7007); take rewrite out there, or leave "
            f"{namespace.name} out of buildset_registry_namespaces"
        )
    others = [one for one in known.get("endpoint") or [] if one != url]
    return {**known, "endpoint": [url, *others]}


def _mirror(mirrors: dict[str, Any], name: str, path: str) -> dict[str, Any] | None:
    """Check what a registry has; one endpoint may stand without a list."""
    found = mirrors[name]
    if found is None:
        return None
    if not isinstance(found, dict):
        raise wrong(f"mirrors.{name}", path, "a mapping with endpoint, a list of URLs")
    known = found.get("endpoint")
    listed = [known] if isinstance(known, str) else known
    if listed is None:
        return found
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise wrong(f"mirrors.{name}.endpoint", path, "a list of URLs")
    return {**found, "endpoint": listed}


def _check(config: Any, name: str, path: str) -> None:
    """Check a registry's own settings, and write truth as JSON has it."""
    if config is None:
        return
    if not isinstance(config, dict):
        raise wrong(f"configs.{name}", path, "a mapping with auth and tls")
    tls = config.get("tls")
    named = tls.get("insecure_skip_verify") if isinstance(tls, dict) else None
    if isinstance(tls, dict) and isinstance(named, str):
        tls["insecure_skip_verify"] = named.lower() in _TRUE
