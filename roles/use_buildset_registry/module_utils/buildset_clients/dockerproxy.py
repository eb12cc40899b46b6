# SPDX-License-Identifier: Apache-2.0
"""dockerd's way to every registry: a proxy, for this daemon alone, that is the buildset registry.

docker has mirrors for docker.io only. The proxy answers for the registries that it stands in for
by certificates of its own, which docker trusts by ``certs.d/NAME`` for these names only; to all
others it leads. The environment does for every version of docker, and a file of its own keeps the
password from those who may ask systemd for a unit's environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from .edits import Edit, own
from .node import Node
from .registry import DOCKER_HUB, Wanted

ENVIRONMENT = "/etc/docker/buildset-registry.env"
_AUTHORITIES = "/etc/docker/buildset-registry"
_DROP_IN = "/etc/systemd/system/docker.service.d/buildset-registry.conf"
_FILE = "buildset-registry.crt"
#: Folders of authorities that a program written in Go reads besides the system's bundle.
_SYSTEM = ("/etc/ssl/certs", "/etc/pki/tls/certs")


def edits(node: Node, wanted: Wanted, running: Mapping[str, str]) -> list[Edit]:
    """Give dockerd the proxy; ``running`` is the environment of the one that runs."""
    if not wanted.registry.proxy or not node.is_root:
        return []
    certificate = wanted.registry.certificate
    names = [one.name for one in wanted.namespaces if one.name != DOCKER_HUB]
    paths = [f"/etc/docker/certs.d/{name}/{_FILE}" for name in names]
    made = [own("docker", path, certificate) for path in paths]
    made.append(own("docker", f"{_AUTHORITIES}/ca.pem", certificate, action="restart"))
    text = environment(node, wanted, running).encode()
    secret = {"mode": 0o600, "secret": True, "action": "restart"}
    made.append(own("docker", ENVIRONMENT, text, **secret))
    unit = f"[Service]\nEnvironmentFile={ENVIRONMENT}\n".encode()
    made.append(own("docker", _DROP_IN, unit, action="restart"))
    return made


def environment(node: Node, wanted: Wanted, running: Mapping[str, str]) -> str:
    """Write the variables, as systemd and a shell read them."""
    registry = wanted.registry
    login = f"{quote(registry.username, safe='')}:{quote(registry.password, safe='')}"
    before = running.get("NO_PROXY") or running.get("no_proxy") or ""
    direct = [name.strip() for name in before.split(",") if name.strip()]
    for address in registry.addresses:
        host = address.rpartition(":")[0]
        direct += [] if host in direct else [host]
    folders = [folder for folder in _SYSTEM if node.exists(folder)]
    variables = {
        "HTTPS_PROXY": f"https://{login}@{registry.proxy}",
        "NO_PROXY": ",".join(direct),
        "SSL_CERT_DIR": ":".join([*folders, _AUTHORITIES]),
    }
    return "".join(f"{name}={value}\n" for name, value in variables.items())
