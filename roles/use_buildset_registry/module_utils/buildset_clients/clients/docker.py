# SPDX-License-Identifier: Apache-2.0
"""docker's daemon: mirrors in daemon.json and certs.d, or a proxy for this daemon alone.

A daemon that has its images in containerd, as a new one has, takes containerd's hosts.toml files
from certs.d, for every registry, and then no mirror of daemon.json; any other one has no use for
them, and has mirrors for docker.io only. Mirrors of daemon.json are read again at SIGHUP, so that
containers go on; certs.d at every connection.

The proxy is the buildset registry. It answers for the registries that it stands in for by
certificates of its own, which docker trusts by ``certs.d/NAME`` for these names only; to all others
it leads. The environment does for every version of docker, and a file of its own keeps the password
from those who may ask systemd for a unit's environment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import files, proxies
from ..canary.image import Image
from ..edits import JSON, Edit, Rewrite, own
from ..errors import ClientError
from ..formats import certs_d, hosts_toml
from ..formats.hosts_toml import HostFolders
from ..formats.json import dump, load, part, wrong
from ..node import ManagedNode, option
from ..registry import CERTIFICATE_FILE, DOCKER_HUB, Namespace, RegistryFacts, Setup
from ..transaction import Replacement, Transaction
from ..units import Unit, whole
from .base import PullError, Reload, Tool

UNITS = ("docker", "snap.docker.dockerd")
#: Where the snap has what others have in the system's folder.
_SNAP = "/var/snap/docker/current"
MIRRORS = "registry-mirrors"
#: The kind of storage plugins that ``docker info`` has where the images are in containerd.
CONTAINERD = "io.containerd.snapshotter.v1"
#: Options that come before HTTPS_PROXY and NO_PROXY of dockerd's environment, from docker 23 on.
_PROXIES = ("https-proxy", "no-proxy")
_AUTHORITIES = "/etc/docker/buildset-registry"
#: Folders of authorities that a program written in Go reads besides the system's bundle.
_SYSTEM = ("/etc/ssl/certs", "/etc/pki/tls/certs")
#: The time that the daemon has to forget its mirrors.
_FORGET_SECONDS = 20
#: The version of the API of docker 25, whose builder reads mirrors and certificates at every build.
_READS = (1, 44)
#: How much the clock that tells when a process was started may differ from that of files.
_TICK_SECONDS = 0.5


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure the daemon, the way that the one which runs was started."""
    arguments = Unit.find(node, "dockerd", *UNITS).arguments
    made = mirroring(node, setup, arguments)
    return made + proxying(node, setup, node.environment("dockerd"))


def mirroring(node: ManagedNode, setup: Setup, arguments: list[str]) -> list[Edit]:
    """Give the daemon mirrors; ``arguments`` are those of the one that runs."""
    named = option(arguments, "config-file") or _settings_file(node)
    path = whole(named, "dockerd", "config-file")
    for argument in arguments:
        if argument.split("=")[0] == f"--{MIRRORS[:-1]}":
            hint = f"move that mirror to {path} and restart docker"
            raise ClientError(f"dockerd has {argument} on its command line; {hint}")
    _refuse_proxies(arguments, setup.registry)
    direct = _direct(node, path, setup.registry)
    rewrite = _mirroring(path, setup.registry, direct)
    made = [Edit("docker", path, JSON, rewrite, action="restart" if direct else "reload")]
    folder = certificates(node)
    made += certs_d.edits("docker", folder, setup.registry)
    certificate = f"{folder}/{setup.registry.pull}/{CERTIFICATE_FILE}"
    return made + hosts_toml.mirrors("docker", HostFolders(node, folder), setup, certificate)


def certificates(node: ManagedNode) -> str:
    """Tell the folder of certs.d, the system's or the user's own daemon's."""
    return f"{_SNAP}/etc/docker/certs.d" if _is_snap(node) else f"{_folder(node)}/certs.d"


def _settings_file(node: ManagedNode) -> str:
    return f"{_SNAP}/config/daemon.json" if _is_snap(node) else f"{_folder(node)}/daemon.json"


def _folder(node: ManagedNode) -> str:
    return "/etc/docker" if node.is_root else f"{node.me.home}/.config/docker"


def _is_snap(node: ManagedNode) -> bool:
    """Tell whether the daemon is that of the snap, which reads no file of the system's."""
    unit = Unit.find(node, "dockerd", *UNITS)
    if node.processes("dockerd"):
        return option(unit.arguments, "config-file").startswith("/var/snap/docker/")
    return node.is_root and node.exists(_SNAP) and not node.program("dockerd")


def _refuse_proxies(arguments: list[str], registry: RegistryFacts) -> None:
    """Refuse a proxy of the command line, which comes before all others, where it is in the way."""
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if registry.proxy and name in _PROXIES:
            raise _proxied(f"dockerd has --{name} on its command line")
    given = {name: option(arguments, name) for name in _PROXIES}
    fault = _environment("dockerd's command line", given).fault(registry.pull)
    if fault and not registry.proxy:
        raise ClientError(f"docker: {fault}, in --no-proxy, and restart docker")


def _environment(place: str, settings: Mapping[str, Any]) -> proxies.Environment:
    """Return docker's own settings for proxies as the environment that they become."""
    names = {"https-proxy": proxies.HTTPS_PROXY, "no-proxy": proxies.NO_PROXY}
    return proxies.Environment(place, {names[key]: str(settings.get(key) or "") for key in names})


def _direct(node: ManagedNode, path: str, registry: RegistryFacts) -> str:
    """Tell what ``no-proxy`` is to be in a daemon.json whose proxy is in the way; or nothing.

    The file's settings become dockerd's environment at its start; one that it lacks stays.
    """
    found = _settings(node, path)
    settings = dict(part(found, "proxies", path))
    if registry.proxy or not settings.get("https-proxy"):
        return ""
    if not settings.get("no-proxy"):
        settings["no-proxy"] = _of_daemon(node).get(proxies.NO_PROXY)
    direct, known = proxies.hosts(registry), _environment(path, settings)
    if f"https://{registry.pull}" in part(found, MIRRORS, path, list):  # it is of an earlier run
        known = known.without(direct)
    return known.with_direct(direct) if any(map(known.through, registry.addresses)) else ""


def _of_daemon(node: ManagedNode) -> proxies.Environment:
    return proxies.of_daemon(Unit.find(node, "dockerd", *UNITS))


def _settings(node: ManagedNode, path: str) -> dict[str, Any]:
    """Read a daemon.json."""
    return load(files.read(node.real(path)) if node.exists(path) else None, path)


def _mirroring(path: str, registry: RegistryFacts, direct: str) -> Rewrite:
    """Return what puts the mirror first; ``direct`` is what is to be asked without a proxy."""
    mirror = f"https://{registry.pull}"
    ours = [f"https://{address}" for address in registry.pulls]

    def rewrite(before: bytes | None) -> bytes:
        found = load(before, path)
        known = part(found, MIRRORS, path, list)
        if not all(isinstance(url, str) for url in known):
            raise wrong(MIRRORS, path, "a list of strings", found)
        for name in _PROXIES:
            if registry.proxy and part(found, "proxies", path).get(name):
                raise _proxied(f"{path} has {name} in proxies")
        if known and known[0].rstrip("/") in ours:
            # As zuul-jobs' role has it, which would write its own name of the registry again.
            return before or b""
        others = [url for url in known if url.rstrip("/") != mirror]
        result = {**found, MIRRORS: [mirror, *others]}
        if direct:
            result["proxies"] = {**part(found, "proxies", path), "no-proxy": direct}
        return dump(result, before)

    return rewrite


def _proxied(what: str) -> ClientError:
    """Refuse a setting that dockerd takes before its environment; its value may hold a password."""
    hint = "start the registry with that proxy in its environment instead"
    return ClientError(
        f"{what}, which comes before the registry's; take it out and {hint}, "
        "or leave buildset_registry_docker_every_registry off"
    )


def proxying(node: ManagedNode, setup: Setup, running: Mapping[str, str]) -> list[Edit]:
    """Give dockerd the proxy; ``running`` is the environment of the one that runs."""
    if not setup.registry.proxy or not node.is_root:
        return []
    if _is_snap(node):
        hint = (
            "install docker by its packages, or leave buildset_registry_docker_every_registry off"
        )
        raise ClientError(f"docker is a snap, whose daemon reads none of the proxy's files; {hint}")
    certificate = setup.registry.certificate
    names = [one.name for one in setup.namespaces if one.name != DOCKER_HUB]
    paths = [f"/etc/docker/certs.d/{name}/{CERTIFICATE_FILE}" for name in names]
    made = [own("docker", path, certificate) for path in paths]
    made.append(own("docker", f"{_AUTHORITIES}/ca.pem", certificate, action="restart"))
    text = environment(node, setup, running)
    return made + Unit.find(node, "dockerd", *UNITS).give("docker", text, secret=True)


def environment(node: ManagedNode, setup: Setup, running: Mapping[str, str]) -> str:
    """Write the variables, as systemd and a shell read them."""
    registry = setup.registry
    login = f"{quote(registry.username, safe='')}:{quote(registry.password, safe='')}"
    direct = proxies.Environment("", running).with_direct(proxies.hosts(registry))
    folders = [folder for folder in _SYSTEM if node.exists(folder)]
    variables = {
        "HTTPS_PROXY": f"https://{login}@{registry.proxy}",
        "NO_PROXY": direct,
        "SSL_CERT_DIR": ":".join([*folders, _AUTHORITIES]),
    }
    return "".join(f"{name}={value}\n" for name, value in variables.items())


@dataclass(frozen=True)
class Docker(Tool):
    """docker, whose daemon has its images in a storage of its own."""

    program = "docker"
    asks = ("version",)
    hub_only: bool = False
    """Whether it has mirrors for docker.io only, for want of the proxy."""

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn where the daemon has its images, which says where it has its mirrors."""
        try:
            told = cls(path, node).run("info", "--format", "{{json .DriverStatus}}").decode()
        except PullError:
            return None
        if CONTAINERD in told:
            return DockerInContainerd(path, node)
        return cls(path, node, hub_only=not setup.registry.proxy)

    def takes(self, namespace: Namespace) -> bool:
        """Tell whether there is a mirror for the registry, or the proxy."""
        return namespace.name == DOCKER_HUB or not self.hub_only

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull each of them."""
        return [self._pull(name) for name in names]

    def _pull(self, name: str) -> str:
        self.run("pull", "--quiet", name)
        told = self.run("image", "inspect", "--format", "{{index .RepoDigests 0}}", name)
        self.run("rmi", name)
        return told.decode().strip().rpartition("@")[2]

    def mirrors(self) -> list[str]:
        """Tell the mirrors of docker.io that the daemon which runs knows."""
        told = self.run("info", "--format", "{{json .RegistryConfig.Mirrors}}")
        return [url.rstrip("/") for url in json.loads(told) or []]

    def mirror(self, registry: RegistryFacts, namespace: Namespace) -> str:
        """Return the pull endpoint for docker.io, and the proxy for all others."""
        return registry.pull if namespace.name == DOCKER_HUB else registry.proxy

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Ask the daemon, which may not have read its files."""
        if namespace.name == DOCKER_HUB:
            return "the daemon that runs", self.mirrors()
        told = self.run("info", "--format", "{{.HTTPSProxy}}").decode().strip()
        return "the daemon that runs", [told.rpartition("@")[2]] if told else []

    def environment(self) -> proxies.Environment:
        """Ask the daemon, which has its settings in it."""
        told = self.run("info", "--format", "{{json .HTTPSProxy}} {{json .NoProxy}}").decode()
        https, _space, direct = told.strip().partition(" ")
        settings = {"https-proxy": _word(https), "no-proxy": _word(direct)}
        place = _of_daemon(self.node).place
        path = _settings_file(self.node)
        own_proxy = part(_settings(self.node, path), "proxies", path).get("https-proxy")
        return _environment(f"{path}, proxies," if own_proxy else place, settings)

    def builder_reads(self) -> bool:
        """Tell whether the daemon's builder reads its files at every build."""
        try:
            told = self.run("version", "--format", "{{.Server.APIVersion}}").decode()
            return tuple(map(int, told.split("."))) >= _READS
        except (PullError, ValueError):
            return True

    def would_end(self) -> str:
        """Tell how many containers end with the daemon; nothing where none does."""
        try:
            told = self.run("info", "--format", "{{.ContainersRunning}} {{.LiveRestoreEnabled}}")
            running, survive = told.decode().split()
        except (PullError, ValueError):
            return "docker does not tell how many"
        return "" if running == "0" or survive == "true" else running

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Tell those of certs.d, the snap's or the system's."""
        folders = [certificates(self.node), "/etc/docker/certs.d"]
        return certs_d.authorities(self.node, folders, address)


class DockerInContainerd(Docker):
    """docker, whose daemon has its images in containerd, and mirrors of every registry."""

    def mirror(self, registry: RegistryFacts, namespace: Namespace) -> str:
        """Return the pull endpoint, also where there is a proxy."""
        return registry.pull

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Read the registry's hosts.toml."""
        return hosts_toml.in_effect(self.node, certificates(self.node), namespace)

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Read those that the registry's hosts.toml names."""
        folder = certificates(self.node)
        return hosts_toml.authorities(self.node, folder, namespace, address)


def _word(text: str) -> str:
    """Read a string of JSON; a daemon that has another answer has none."""
    with suppress(ValueError):
        return str(json.loads(text))
    return ""


def forget(transaction: Transaction, reload: Reload) -> str:
    """Have a daemon that runs drop its mirrors, before its file is restored.

    At SIGHUP dockerd takes what its file sets, and keeps what the file no longer sets. So the file
    sets an empty list of mirrors until the daemon has read it, and becomes what it was only then. A
    daemon that will be restarted needs nothing.
    """
    node = transaction.node
    if transaction.outcome.actions.get("docker") != "reload" or not node.processes("dockerd"):
        return ""
    read_again = [
        node.real(name)
        for name, entry in transaction.entries.items()
        if (entry.client, entry.kind, entry.action) == ("docker", JSON, "reload")
    ]
    for one in transaction.replacements:
        if one.path in read_again and not (_sets_mirrors(one) or _clear(one, node, reload)):
            return "docker asks the registry first until it is restarted"
    return ""


def _sets_mirrors(one: Replacement) -> bool:
    return MIRRORS in load(one.target, str(one.path))


def _clear(one: Replacement, node: ManagedNode, reload: Reload) -> bool:
    """Tell whether the daemon has dropped its mirrors."""
    program, status = node.program("docker"), files.status(one.path)
    if program is None or status is None:
        return False
    settings = {**load(one.target, str(one.path)), MIRRORS: []}
    files.write(one.path, dump(settings, one.current), status.mode)
    reload()
    docker = Docker(program, node)
    deadline = time.monotonic() + _FORGET_SECONDS
    try:
        while docker.mirrors():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
    except PullError:
        return False
    return True


def refresh(node: ManagedNode, paths: Sequence[str], since: float, restart: Reload) -> str:
    """Have the builder within dockerd take mirrors and certificates; tell where it has not.

    Up to docker 24 ``docker build`` by BuildKit has those of dockerd's start, whatever SIGHUP does
    for ``docker pull``: moby calls ``Daemon.RegistryHosts`` once. dockerd is restarted where no
    container ends by that. ``paths`` have changed since a point of time.
    """
    program, started = node.program("docker"), node.started("dockerd")
    if not program or not started or started > _changed(node, paths, since) - _TICK_SECONDS:
        return ""
    docker = Docker(program, node)
    if docker.builder_reads():
        return ""
    what = "docker: builds by BuildKit have the mirrors of before until dockerd is restarted"
    ended = docker.would_end()
    if ended:
        return (
            f"{what}, which ends the containers that run ({ended}): restart it when that is right"
        )
    told = restart()
    return f"{what}; {told}" if told else ""


def _changed(node: ManagedNode, paths: Sequence[str], since: float) -> float:
    """Tell when a file of the daemon changed last; 0 where none of them is ours."""
    own = list(node.real(certificates(node)).glob(f"*/{CERTIFICATE_FILE}"))
    touched = any(path.startswith(f"{_folder(node)}/") for path in paths)
    if not own and not touched:
        return 0
    times = [since if touched else 0]
    for path in (*own, node.real(_settings_file(node))):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
