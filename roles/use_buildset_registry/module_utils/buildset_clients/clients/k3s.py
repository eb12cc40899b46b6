# SPDX-License-Identifier: Apache-2.0
"""k3s and RKE2: registries.yaml, from which they write the hosts.toml files of their containerd."""

from __future__ import annotations

import importlib
import json
from typing import Any

from ..edits import OWN, Edit, Rewrite, own
from ..errors import ClientError
from ..formats.json import part
from ..node import ManagedNode
from ..registry import CERTIFICATE_FILE, Setup


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure k3s."""
    return _edits("k3s", setup)


def rke2(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure RKE2, which is k3s in another folder."""
    return _edits("rke2", setup)


def _edits(client: str, setup: Setup) -> list[Edit]:
    """Write registries.yaml; JSON is YAML as well, where there was no file."""
    folder = f"/etc/rancher/{client}"
    path, certificate = f"{folder}/registries.yaml", f"{folder}/{CERTIFICATE_FILE}"
    rewrite = _mirroring(setup, path, certificate)
    return [
        own(client, certificate, setup.registry.certificate),
        Edit(client, path, OWN, rewrite, mode=0o600, secret=True, action="restart"),
    ]


def _mirroring(setup: Setup, path: str, certificate: str) -> Rewrite:
    def rewrite(before: bytes | None) -> bytes:
        tree = _load(before, path)
        registry = setup.registry
        mirrors, configs = (part(tree, name, path) for name in ("mirrors", "configs"))
        for namespace in setup.namespaces:
            known = mirrors.get(namespace.name) or {}
            others = [url for url in known.get("endpoint", []) if url != _url(setup)]
            mirrors[namespace.name] = {**known, "endpoint": [_url(setup), *others]}
        for address in registry.addresses:
            login = {"username": registry.username, "password": registry.password}
            configs[address] = {"auth": login, "tls": {"ca_file": certificate}}
        result = {**tree, "mirrors": mirrors, "configs": configs}
        return json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n"

    return rewrite


def _url(setup: Setup) -> str:
    return f"https://{setup.registry.pull}"


def _load(content: bytes | None, path: str) -> dict[str, Any]:
    if content is None or not content.strip():
        return {}
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        hint = "install python3-yaml there, which Ansible's modules find"
        raise ClientError(
            f"{path}: the node's Python has no module that reads YAML; {hint}"
        ) from error
    try:
        found = yaml.safe_load(content)
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        what = f"{path}, line {line}: not YAML ({getattr(error, 'problem', error)})"
        raise ClientError(f"{what}; mend the file, nothing was changed") from error
    if not isinstance(found, dict):
        raise ClientError(f"{path}, line 1: not a YAML mapping; mend the file, nothing was changed")
    return found
