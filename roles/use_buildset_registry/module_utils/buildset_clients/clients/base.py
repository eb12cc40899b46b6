# SPDX-License-Identifier: Apache-2.0
"""The parts of a client: its edits, the service that reads them, and the tools that are tried."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, ClassVar, Protocol

from .. import proxies
from ..canary.image import Image
from ..edits import Edit
from ..errors import ClientError
from ..node import ManagedNode
from ..registry import Namespace, RegistryFacts, Setup
from ..transaction import Transaction
from ..units import Unit

_RESTART_SECONDS = 120
_PULL_SECONDS = 60
_FORBIDDEN = re.compile(r"permission denied", re.IGNORECASE)
_SOCKET = re.compile(r"(?:unix://)?(/[\w./-]+\.sock)")


class PullError(Exception):
    """A tool that did not get the canary; the words are the tool's own."""


class Service(Protocol):
    """Something that takes what is in a client's files."""

    def tell(self, node: ManagedNode, client: str, action: str, command: str | None) -> str:
        """Have it take them; return a warning where it may not have.

        ``command`` is the user's own way to restart it."""


@dataclass(frozen=True)
class Daemon:
    """A daemon by its program, and by its unit of systemd or service of OpenRC."""

    program: str
    names: tuple[str, ...]
    """The names that the unit may have."""

    at_sighup: bool = False
    """Whether it reads its configuration again at SIGHUP."""

    socket: str = ""
    """The socket at which systemd may listen for it until it is wanted."""

    prefix: str = ""
    """The beginning of variables that are for a containerd which it starts."""

    def unit(self, node: ManagedNode) -> Unit:
        """Find its unit, of the system or of the ordinary user who does the work."""
        return Unit.find(node, self.program, *self.names, prefix=self.prefix)

    def edits(self, client: str, node: ManagedNode, registry: RegistryFacts) -> list[Edit]:
        """Have it ask the registry itself, where its environment has a proxy."""
        return proxies.bypass(self.unit(node), client, registry)

    def tell(self, node: ManagedNode, client: str, action: str, command: str | None) -> str:
        """Reload or restart it if it runs."""
        if command is not None and (action == "restart" or not self.at_sighup):
            execute(shlex.split(command), f"the command to restart {client}")
            return ""
        processes = node.processes(self.program)
        if not processes:
            return ""
        unit, systemctl = self.unit(node).name, _systemctl(node)
        if _is_active(node, unit):
            if action == "restart":
                execute([*systemctl, "daemon-reload"], "systemctl daemon-reload")
            execute([*systemctl, action, unit], f"the unit {unit}")
        elif action == "reload" and self.at_sighup:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGHUP)
        elif node.is_root and node.program("rc-service") and node.exists(f"/etc/init.d/{unit}"):
            execute(["rc-service", unit, action], f"the service {unit}")
        else:
            hint = f"restart it, or say how in buildset_registry_restart_commands.{client}"
            return f"{client} runs, but is no service of this node; {hint}"
        return ""

    def is_of_another(self, node: ManagedNode) -> bool:
        """Tell whether the node's own daemon is another user's, whose files it reads."""
        listens = bool(self.socket) and node.is_socket_of_another(self.socket)
        return listens or node.is_of_another(self.program)


@dataclass(frozen=True)
class SnapDaemon(Daemon):
    """A daemon of a snap, which has the name of the node's own, and its environment by a file."""

    def edits(self, client: str, node: ManagedNode, registry: RegistryFacts) -> list[Edit]:
        """Leave the environment to the client's own edits."""
        return []

    def tell(self, node: ManagedNode, client: str, action: str, command: str | None) -> str:
        """Restart its unit, whatever other processes of its name there are."""
        unit = self.unit(node).name
        if command is not None:
            execute(shlex.split(command), f"the command to restart {client}")
        elif _is_active(node, unit):
            execute(["systemctl", "restart", unit], f"the unit {unit}")
        return ""

    def is_of_another(self, node: ManagedNode) -> bool:
        """Tell that a process of this name may be any other one's."""
        return False


def _systemctl(node: ManagedNode) -> list[str]:
    """Return the command for the system's units, or for those of an ordinary user."""
    return ["systemctl"] if node.is_root else ["systemctl", "--user"]


def _is_active(node: ManagedNode, unit: str) -> bool:
    if not node.exists("/run/systemd/system"):
        return False
    ask = [*_systemctl(node), "is-active", "--quiet", unit]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Tool(ABC):
    """A program that pulls images, and the configuration that it goes by."""

    program: ClassVar[str]
    storage: ClassVar[str] = ""
    """The storage of images that it shares with other tools: they are tried one after the other."""

    asks: ClassVar[tuple[str, ...]] = ()
    """The words that have its daemon answer; none where it has no daemon."""

    path: str
    node: ManagedNode
    options: tuple[str, ...] = ()
    """The words before every command, such as where its daemon is."""

    @classmethod
    def connect(cls, path: str, node: ManagedNode, setup: Setup) -> Tool | None:
        """Learn from its daemon where it looks for mirrors; nothing where that does not answer."""
        return cls(path, node)

    def takes(self, namespace: Namespace) -> bool:
        """Tell whether it can have a mirror for a registry."""
        return True

    def expected(self, image: Image) -> str:
        """Return what it is to tell of each image that it pulls."""
        return image.digest

    @abstractmethod
    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull the canary by all names and forget it; return what is told of each."""

    def mirror(self, registry: RegistryFacts, namespace: Namespace) -> str:
        """Return the address that it is to have as the mirror of a registry."""
        return registry.pull

    @abstractmethod
    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Tell which mirrors of a registry are in effect, after the place that says so."""

    @abstractmethod
    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Tell the certificates that it trusts at a mirror, after the place that says so."""

    def unread(self) -> str:
        """Tell of a configuration that its daemon has not read."""
        return ""

    def login_files(self) -> list[str]:
        """Tell the files with logins that it may read, of the user who runs it."""
        home = str(self.node.real(self.node.me.home))
        docker = os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
        chosen = [os.environ.get("REGISTRY_AUTH_FILE") or f"{home}/.config/containers/auth.json"]
        return list(dict.fromkeys([*chosen, f"{docker}/config.json"]))

    def environment(self) -> proxies.Environment:
        """Tell the environment by which it asks registries."""
        return proxies.of_task(self.node)

    @classmethod
    def silence(cls, path: str, node: ManagedNode) -> str:
        """Tell that its daemon is not this user's to ask, and what to do; else nothing."""
        try:
            cls(path, node).run(*cls.asks) if cls.asks else None
        except PullError as error:
            found = _FORBIDDEN.search(str(error))
            socket = _SOCKET.search(str(error))
            hint = "become root, or have this user join the group that the socket belongs to"
            where = socket.group(1) if socket else "its daemon's socket"
            return f"{cls.program} may not use {where}; {hint}" if found else ""
        return ""

    def run(self, *words: str, variables: Mapping[str, str] | None = None) -> bytes:
        """Run it, with further variables in its environment; PullError is what it says."""
        try:
            done = subprocess.run(
                [self.path, *self.options, *words],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(variables or {})},
                capture_output=True,
                timeout=_PULL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PullError(f"it takes longer than {_PULL_SECONDS} s") from error
        if done.returncode != 0:
            raise PullError(done.stderr.decode("utf-8", "replace").strip())
        return done.stdout


#: A service to be reloaded or restarted, which is done by calling it.
Reload = Callable[[], str]


@dataclass(frozen=True)
class Client:
    """A row of the table of clients."""

    name: str
    """The name that users give."""

    signs: tuple[str, ...]
    """The programs and files that tell that a node has it."""

    edits: Callable[[ManagedNode, Setup], list[Edit]]
    """The files that it is configured by."""

    of_root: bool = False
    """Whether it belongs to the whole node, or writes where root alone may."""

    service: Daemon | None = None
    """The daemon that reads the files."""

    tools: tuple[type[Tool], ...] = ()
    """The programs by which the canary is tried, and seen which mirrors are in effect."""

    forget: Callable[[Transaction, Reload], str] | None = None
    """The work to be done before its files are restored; a warning where it may have failed."""

    refresh: Callable[[ManagedNode, Sequence[str], float, Reload], str] | None = None
    """The work to be done after its files have changed, and its daemon knows; a warning as well."""

    def is_on(self, node: ManagedNode) -> bool:
        """Tell whether a node has it, and this user may configure it."""
        signs = [node.exists(sign) if "/" in sign else node.program(sign) for sign in self.signs]
        return any(signs) and (node.is_root or not self.of_root)

    def runs(self, node: ManagedNode) -> bool:
        """Tell whether its daemon runs."""
        return self.service is not None and bool(node.processes(self.service.program))

    def is_left_out(self, node: ManagedNode) -> bool:
        """Tell whether its daemon is root's, and the present user is not root."""
        return not node.is_root and self.service is not None and self.service.is_of_another(node)


def execute(command: list[str], what: str) -> None:
    """Run a command of the node; ClientError has the last line of what it said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_RESTART_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClientError(f"{what} failed: {error}") from error
    if done.returncode != 0:
        words = [line for line in done.stdout.splitlines() if line.strip()]
        raise ClientError(f"{what} failed: {words[-1] if words else done.returncode}")
