# SPDX-License-Identifier: Apache-2.0
"""The daemons of a node: what runs, and having it read its configuration again."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from . import system
from .errors import ClientError
from .node import Node

#: The unit, and the program that runs where it does.
_SERVICES = {
    "docker": ("docker", "dockerd"),
    "containerd": ("containerd", "containerd"),
    "containers": ("crio", "crio"),
    "buildkit": ("buildkit", "buildkitd"),
    "k3s": ("k3s", "k3s"),
    "rke2": ("rke2-server", "rke2"),
}
#: What reads its configuration again at SIGHUP.
_AT_SIGHUP = ("docker", "containers")
_SECONDS = 120


class Daemons:
    """The daemons of a node; ``commands`` are a user's own way to have one read it again."""

    def __init__(self, node: Node, commands: Mapping[str, str]) -> None:
        self.node = node
        self.commands = commands

    def arguments(self, program: str) -> list[str]:
        """Return the command line of a daemon that runs, without its program."""
        return next(iter(self._running(program).values()), [])

    def environment(self, program: str) -> dict[str, str]:
        """Return the environment of a daemon that runs; nothing where it may not be seen."""
        for process in self._running(program):
            try:
                content = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            pairs = [one.partition("=") for one in content.decode("utf-8", "replace").split("\0")]
            return {name: value for name, _separator, value in pairs if name}
        return {}

    def started(self, program: str) -> float:
        """Tell when a daemon that runs was started; 0 where none is seen."""
        for process in self._running(program):
            with suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                alive = float(Path("/proc/uptime").read_text().split()[0])
                return time.time() - alive + int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return 0

    def major(self, program: str) -> int:
        """Tell the major version of a program; 1 where it cannot be told."""
        path = self.node.program(program)
        if path is None:
            return 1
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"\bv?(\d+)\.\d+", told.stdout)
        return int(found.group(1)) if found else 1

    def runs(self, client: str) -> bool:
        """Tell whether a client's daemon runs."""
        return bool(self._running(_SERVICES[client][1]))

    def tell(self, client: str, action: str) -> str:
        """Have a client take its new configuration; return a warning where it may not have."""
        if client == "system":
            return self._remake_store()
        if client not in _SERVICES:
            return ""
        if client in self.commands and (action == "restart" or client not in _AT_SIGHUP):
            _run(shlex.split(self.commands[client]), f"the command to restart {client}")
            return ""
        unit, program = _SERVICES[client]
        processes = self._running(program)
        return self._tell(client, action, unit, processes) if processes else ""

    def _tell(self, client: str, action: str, unit: str, processes: Iterable[int]) -> str:
        if self._is_unit(unit):
            if action == "restart":
                _run(["systemctl", "daemon-reload"], "systemctl daemon-reload")
            _run(["systemctl", action, unit], f"the unit {unit}")
        elif action == "reload" and client in _AT_SIGHUP:
            for process in processes:
                os.kill(process, signal.SIGHUP)
        elif self.node.program("rc-service") and self.node.exists(f"/etc/init.d/{unit}"):
            _run(["rc-service", unit, action], f"the service {unit}")
        else:
            hint = f"restart it, or say how in buildset_registry_restart_commands.{client}"
            return f"{client} runs, but is no service of this node; {hint}"
        return ""

    def _remake_store(self) -> str:
        found = system.store(self.node)
        if found:
            program = self.node.program(found[1][0]) or found[1][0]
            _run([program, *found[1][1:]], "making the system's store of certificates")
        return ""

    def _is_unit(self, unit: str) -> bool:
        if not self.node.exists("/run/systemd/system"):
            return False
        ask = ["systemctl", "is-active", "--quiet", unit]
        return subprocess.run(ask, check=False).returncode == 0

    def _running(self, program: str) -> dict[int, list[str]]:
        """Find the processes of a program; those in containers have another root."""
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                same = os.path.samestat((entry / "root").stat(), self.node.root.stat())
            except OSError:
                continue
            if os.path.basename(words[0]) == program and same:  # noqa: PTH119
                found[int(entry.name)] = words[1:-1]
        return found


def option(arguments: list[str], name: str) -> str:
    """Tell the value of an option on a daemon's command line; nothing where it is not there."""
    for index, argument in enumerate(arguments):
        found, separator, value = argument.partition("=")
        if found in (f"-{name}", f"--{name}"):
            return value if separator else "".join(arguments[index + 1 : index + 2])
    return ""


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClientError(f"{what} failed: {error}") from error
    if done.returncode != 0:
        words = [line for line in done.stdout.splitlines() if line.strip()]
        raise ClientError(f"{what} failed: {words[-1] if words else done.returncode}")
