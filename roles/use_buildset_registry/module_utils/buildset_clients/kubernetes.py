# SPDX-License-Identifier: Apache-2.0
"""Kubernetes in a package: k3s, RKE2, MicroK8s, and the nodes of minikube and kind.

All have containerd inside. k3s and RKE2 write its hosts.toml files from a registries.yaml.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from . import hoststoml, jsontext
from .edits import OWN, Change, Edit, own
from .errors import ClientError
from .node import Node
from .registry import Wanted

_FILE = "buildset-registry.crt"
#: Folders of k3s and RKE2, and the services that read them.
RANCHER = {"k3s": "/etc/rancher/k3s", "rke2": "/etc/rancher/rke2"}
MICROK8S = "/var/snap/microk8s/current/args/certs.d"
_NODE = "/etc/containerd/certs.d"


def rancher(client: str, wanted: Wanted) -> list[Edit]:
    """Write registries.yaml; JSON is YAML as well, where there was no file."""
    folder = RANCHER[client]
    path, certificate = f"{folder}/registries.yaml", f"{folder}/{_FILE}"
    change = _mirroring(wanted, path, certificate)
    return [
        own(client, certificate, wanted.registry.certificate),
        Edit(client, path, OWN, change, mode=0o600, secret=True, action="restart"),
    ]


def microk8s(wanted: Wanted) -> list[Edit]:
    """Write the folder that MicroK8s has its containerd read at every pull."""
    return hoststoml.edits("microk8s", MICROK8S, wanted)


def minikube(node: Node, wanted: Wanted) -> list[Edit]:
    """Write what minikube copies into the nodes that it starts."""
    folder = f"{node.me.home}/.minikube/files{_NODE}"
    return hoststoml.edits("minikube", folder, wanted, seen=_NODE)


def kind(node: Node, wanted: Wanted) -> list[Edit]:
    """Write a configuration for ``kind create cluster --config``, which mounts the folder."""
    folder = f"{node.me.home}/.config/kind-buildset-registry"
    cluster = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "containerdConfigPatches": [
            f'[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "{_NODE}"\n'
        ],
        "nodes": [
            {
                "role": "control-plane",
                "extraMounts": [{"hostPath": f"{folder}/certs.d", "containerPath": _NODE}],
            }
        ],
    }
    text = json.dumps(cluster, indent=2) + "\n"
    made = hoststoml.edits("kind", f"{folder}/certs.d", wanted, seen=_NODE)
    return [own("kind", f"{folder}/cluster.yaml", text.encode()), *made]


def _mirroring(wanted: Wanted, path: str, certificate: str) -> Change:
    def change(before: bytes | None) -> bytes:
        tree = _load(before, path)
        registry = wanted.registry
        mirrors, configs = (jsontext.part(tree, name, path) for name in ("mirrors", "configs"))
        for namespace in wanted.namespaces:
            known = mirrors.get(namespace.name) or {}
            others = [url for url in known.get("endpoint", []) if url != _url(wanted)]
            mirrors[namespace.name] = {**known, "endpoint": [_url(wanted), *others]}
        for address in registry.addresses:
            login = {"username": registry.username, "password": registry.password}
            configs[address] = {"auth": login, "tls": {"ca_file": certificate}}
        result = {**tree, "mirrors": mirrors, "configs": configs}
        return json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n"

    return change


def _url(wanted: Wanted) -> str:
    return f"https://{wanted.registry.pull}"


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
