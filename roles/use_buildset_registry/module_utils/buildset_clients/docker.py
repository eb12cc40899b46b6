# SPDX-License-Identifier: Apache-2.0
"""docker's daemon: a mirror of Docker Hub in daemon.json, mirrors of all registries and trust in
certs.d.

A daemon that has its images in containerd, as a new one has, takes containerd's hosts.toml files
from certs.d, for every registry, and then no mirror of daemon.json; any other one has no use for
them. Mirrors of daemon.json are read again at SIGHUP, so that containers go on; certs.d at every
connection.
"""

from __future__ import annotations

from . import containers, hoststoml
from .daemons import option
from .edits import JSON, Change, Edit
from .errors import ClientError
from .jsontext import dump, load, part, wrong
from .node import Node
from .registry import Registry, Wanted

MIRRORS = "registry-mirrors"
#: What ``docker info`` has where the images are in containerd: the kind of its storage plugins.
CONTAINERD = "io.containerd.snapshotter.v1"
#: What comes before HTTPS_PROXY and NO_PROXY of dockerd's environment, from docker 23 on.
_PROXIES = ("https-proxy", "no-proxy")


def edits(node: Node, wanted: Wanted, arguments: list[str]) -> list[Edit]:
    """Configure the daemon; ``arguments`` are those of the one that runs."""
    path = option(arguments, "config-file") or f"{_folder(node)}/daemon.json"
    for argument in arguments:
        if argument.split("=")[0] == f"--{MIRRORS[:-1]}":
            hint = f"move that mirror to {path} and restart docker"
            raise ClientError(f"dockerd has {argument} on its command line; {hint}")
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if wanted.registry.proxy and name in _PROXIES:
            raise _proxied(f"dockerd has --{name} on its command line")
    change = _mirroring(path, wanted.registry)
    made = [Edit("docker", path, JSON, change, action="reload")]
    certs = certificates(node)
    made += containers.trust("docker", certs, wanted.registry)
    certificate = f"{certs}/{wanted.registry.pull}/{containers.CERTIFICATE}"
    return made + hoststoml.mirrors("docker", certs, wanted, certificate)


def certificates(node: Node) -> str:
    """Tell the folder of certs.d, the system's or the user's own daemon's."""
    return f"{_folder(node)}/certs.d"


def _folder(node: Node) -> str:
    return "/etc/docker" if node.is_root else f"{node.me.home}/.config/docker"


def _mirroring(path: str, registry: Registry) -> Change:
    mirror = f"https://{registry.pull}"

    def change(before: bytes | None) -> bytes:
        found = load(before, path)
        known = part(found, MIRRORS, path, list)
        if not all(isinstance(url, str) for url in known):
            raise wrong(MIRRORS, path, "a list of strings")
        for name in _PROXIES:
            if registry.proxy and part(found, "proxies", path).get(name):
                raise _proxied(f"{path} has {name} in proxies")
        others = [url for url in known if url.rstrip("/") != mirror]
        return dump({**found, MIRRORS: [mirror, *others]}, before)

    return change


def _proxied(what: str) -> ClientError:
    """Refuse a setting that dockerd takes before its environment; its value may hold a password."""
    hint = "start the registry with that proxy in its environment instead"
    return ClientError(
        f"{what}, which comes before the registry's; take it out and {hint}, "
        "or leave buildset_registry_docker_every_registry off"
    )
