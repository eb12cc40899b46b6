# SPDX-License-Identifier: Apache-2.0
"""containerd 1.6 to 2: the folder of hosts.toml files, and the setting that makes it read them.

CRI goes by the setting. The transfer service of containerd 2 has one as well, but that of 2.4 reads
the folder which its client names, as ctr of every version does by --hosts-dir. hosts.toml files are
read at every pull, the setting at the start of the daemon only.

A node may have several daemons: docker and k3s start one of their own. The one that is meant here
is that which answers at the usual address.
"""

from __future__ import annotations

import os
import subprocess
from abc import ABC
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..canary.image import Image
from ..edits import TEXT, Edit
from ..errors import ClientError
from ..formats import containerd_config, hosts_toml, toml
from ..node import ManagedNode, option
from ..registry import Namespace, Setup
from ..units import Unit, whole
from .base import PullError, Tool

UNITS = ("containerd",)
_SETTINGS = "/etc/containerd/config.toml"
ADDRESS = "/run/containerd/containerd.sock"
#: The places of a daemon's address: up to version 3 of its file, and in version 4.
_ADDRESSES = (["grpc"], ["plugins", "io.containerd.server.v1.grpc"])
#: The namespace of containerd in which the canary is.
_SPACE = "buildset-registry-canary"
_DUMP_SECONDS = 20
#: The difference of the clock of files and that by which the start of a process is told.
_CLOCKS_SECONDS = 0.5


@dataclass(frozen=True)
class RunningContainerd:
    """The daemon, also one that is to be started: its program, and the file that it reads."""

    program: str
    settings: str = _SETTINGS

    @classmethod
    def find(cls, node: ManagedNode) -> RunningContainerd:
        """Find the one at the usual address, or that which its unit will start."""
        usual = node.program("containerd") or ""
        for number, arguments in node.processes("containerd").items():
            settings = _settings(arguments)
            address = option(arguments, "address") or option(arguments, "a")
            if (address or _address(node, settings)).replace("/var/run/", "/run/") != ADDRESS:
                continue
            with suppress(OSError):
                running = os.readlink(f"/proc/{number}/exe")
                usual = running if os.access(running, os.X_OK) else usual
            return cls(usual, whole(settings, "containerd", "config"))
        settings = _settings(Unit.find(node, "containerd", *UNITS).configured)
        return cls(usual, whole(settings, "containerd", "config"))

    def configuration(self, node: ManagedNode) -> containerd_config.Configuration:
        """Read its files."""
        major = node.major(self.program) if self.program else 1
        return containerd_config.read(node, self.settings, major)

    def config_path(self, node: ManagedNode) -> str:
        """Ask which folders are in effect; its files tell where its program does not."""
        path = str(node.real(self.settings))
        with suppress(OSError, subprocess.SubprocessError, ClientError):
            told = subprocess.run(
                [self.program, "--config", path, "config", "dump"],
                capture_output=True,
                timeout=_DUMP_SECONDS,
                check=True,
            )
            return containerd_config.in_effect(told.stdout)
        return self.configuration(node).config_path


def _settings(arguments: list[str]) -> str:
    """Tell the file that arguments name, or the usual one."""
    return option(arguments, "config") or option(arguments, "c") or _SETTINGS


def _address(node: ManagedNode, settings: str) -> str:
    """Tell the address that a file names, or the usual one."""
    tree = toml.read(node, settings) if node.exists(settings) else {}
    named = [toml.get(tree, table).get("address") for table in _ADDRESSES]
    return next((str(one) for one in named if one), ADDRESS)


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Have the daemon read a folder, by the files that have the last word, and write that."""
    found = RunningContainerd.find(node).configuration(node)
    found.check()
    made = []
    parts = {part.path: part for part in found.parts}
    for path, tables in found.tables().items():
        rewrite = partial(_naming, parts[path], tables, found.config_path)
        made.append(Edit("containerd", path, TEXT, rewrite, action="restart"))
    folders = hosts_toml.HostFolders(node, found.config_path)
    return [*made, *hosts_toml.edits("containerd", folders, setup)]


def _naming(
    part: containerd_config.Part, tables: list[list[str]], folders: str, before: bytes | None
) -> bytes:
    return containerd_config.naming(before or b"", part, tables, folders)


@dataclass(frozen=True)
class _ContainerdTool(Tool, ABC):
    """A tool that goes by the folders which the daemon has in effect."""

    settings: str = ""
    """The file that the daemon reads."""

    folders: str = ""
    """The folders of hosts.toml files, as the daemon tells them."""

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Read the registry's hosts.toml."""
        if not self.folders:
            return f"containerd config dump of {self.settings}, without config_path,", []
        return hosts_toml.in_effect(self.node, self.folders, namespace)

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Read those that the registry's hosts.toml names."""
        return hosts_toml.authorities(self.node, self.folders, namespace, address)


@dataclass(frozen=True)
class Ctr(_ContainerdTool):
    """ctr. It does not go by the daemon's configuration: it is told the folder, as CRI finds it."""

    program = "ctr"

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn whether the daemon answers."""
        try:
            cls(path, node).run("version")
        except PullError:
            return None
        daemon = RunningContainerd.find(node)
        return cls(path, node, settings=daemon.settings, folders=daemon.config_path(node))

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Fetch each of them into a namespace of their own, which is removed."""
        space = ["--namespace", _SPACE]
        for name in names:
            self.run(*space, "content", "fetch", *self._folder(name), name)
        lines = self.run(*space, "images", "list").decode().splitlines()[1:]
        self.run(*space, "images", "rm", "--sync", *names)
        self.run("namespaces", "rm", _SPACE)
        found = {line.split()[0]: line.split()[2] for line in lines}
        return [found.get(name, "") for name in names]

    def _folder(self, name: str) -> list[str]:
        """Tell the one of the folders that has the name's registry."""
        found = hosts_toml.root(self.node, self.folders, name.partition("/")[0])
        return ["--hosts-dir", found] if found else []


@dataclass(frozen=True)
class Crictl(_ContainerdTool):
    """crictl, which has CRI pull into its own images, as a kubelet does."""

    program = "crictl"

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn whether the daemon has CRI; nothing where it does not answer."""
        address = f"unix://{ADDRESS}"
        options = ("--runtime-endpoint", address, "--image-endpoint", address)
        daemon = RunningContainerd.find(node)
        try:
            cls(path, node, options).run("version")
        except PullError:
            return None
        folders = daemon.config_path(node)
        return cls(path, node, options, settings=daemon.settings, folders=folders)

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull each of them; a digest is told with the image's name."""
        shown = ["-o", "go-template", "--template", "{{index .status.repoDigests 0}}"]
        found = []
        for name in names:
            self.run("pull", name)
            told = self.run("inspecti", *shown, name).decode()
            found.append(told.strip().rpartition("@")[2])
            self.run("rmi", name)
        return found

    def unread(self) -> str:
        """Compare the times of the files with that of the daemon's start: CRI reads them then."""
        begun = self.node.started("containerd")
        configuration = RunningContainerd("", self.settings).configuration(self.node)
        for part in configuration.parts if begun else []:
            written = files_time(self.node, part.path)
            if written - begun > _CLOCKS_SECONDS:
                hint = "restart it, or say how in buildset_registry_restart_commands.containerd"
                return (
                    f"configuration: containerd was started before {part.path} was written; {hint}"
                )
        return ""


def files_time(node: ManagedNode, path: str) -> float:
    """Tell when a file was written; 0 where there is none."""
    return node.real(path).stat().st_mtime if node.exists(path) else 0
