# SPDX-License-Identifier: Apache-2.0
"""A lab and what is known of it between commands, which is in one folder.

- `lab.json`: the keeper and the hosts: processes and when they started
- `ssh_config`: for `ssh -F`, with keys, known_hosts and the sockets of ssh
- `NAME.log`: what a host's sshd says
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.lab import access, cgroup, host, keeper, network
from tests.lab.command import LabError
from tests.lab.host import Settings

END_SECONDS = 10


@dataclass(frozen=True)
class Process:
    """A process, told from a later one of the same number by when it started."""

    number: int
    started: str

    @classmethod
    def of(cls, number: int) -> Process:
        """Remember a process that runs now."""
        return cls(number, host.start_time(number))

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        return bool(self.started) and host.start_time(self.number) == self.started


@dataclass(frozen=True)
class Lab:
    """A lab that is up, or what is left of one."""

    folder: Path
    keeper: Process
    hosts: Mapping[str, Process]

    @classmethod
    def read(cls, folder: Path) -> Lab:
        """Find the lab of a folder."""
        try:
            known = json.loads((folder / "lab.json").read_text())
        except FileNotFoundError as error:
            raise LabError(f"there is no lab in {folder}: make one by `up`") from error
        hosts = {name: Process(**process) for name, process in known["hosts"].items()}
        return cls(folder, Process(**known["keeper"]), hosts)

    def write(self) -> None:
        """Keep what is known."""
        known = {
            "keeper": asdict(self.keeper),
            "hosts": {name: asdict(process) for name, process in self.hosts.items()},
        }
        (self.folder / "lab.json").write_text(json.dumps(known, indent=1) + "\n")

    def command(self, name: str, *argv: str) -> list[str]:
        """Tell the command that runs a program on a host, as root."""
        process = self.hosts.get(name)
        if process is None or not process.alive:
            raise LabError(f"there is no host {name} in {self.folder}: hosts are {[*self.hosts]}")
        return host.command(process.number, *argv)

    def down(self) -> None:
        """End the lab; what ended already does not matter."""
        access.leave(self.folder)
        if self.keeper.alive:
            os.kill(self.keeper.number, signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while any(process.alive for process in [self.keeper, *self.hosts.values()]):
            if time.monotonic() > deadline:
                raise LabError(f"the processes of the lab in {self.folder} do not end")
            time.sleep(0.01)
        cgroup.remove(host.group(self.keeper.number))
        shutil.rmtree(self.folder)


def down(folder: Path) -> None:
    """End the lab of a folder, if there is one."""
    if (folder / "lab.json").exists():
        Lab.read(folder).down()


def up(
    folder: Path,
    hosts: Sequence[str],
    aliases: Mapping[str, str],
    owner: int | None = None,
    shown: Mapping[str, str] | None = None,
    *,
    booted: bool = False,
) -> Lab:
    """Make a lab; an earlier one of the folder ends. Aliases are further names of hosts, folders of
    the machine are shown by their paths in the hosts, and systemd runs hosts that are booted."""
    if os.geteuid() != 0:
        raise LabError("namespaces with networks of their own need root: run it as root")
    down(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lab = Lab(folder, Process.of(keeper.spawn(owner)), {})
    lab.write()
    try:
        network.make_switch(lab.keeper.number)
        for known in _settings(lab, hosts, aliases, shown or {}):
            settings = replace(known, booted=booted)
            process = Process.of(settings.start(lab.keeper.number, folder / f"{settings.name}.log"))
            lab = Lab(folder, lab.keeper, {**lab.hosts, settings.name: process})
            lab.write()
    except BaseException:
        lab.down()
        raise
    return lab


def _settings(
    lab: Lab, hosts: Sequence[str], aliases: Mapping[str, str], shown: Mapping[str, str]
) -> list[Settings]:
    """Give each host a number and a key, and every host the names of all."""
    folder = lab.folder
    authorized = access.make_key(folder / "key")
    numbers = dict(zip(hosts, range(network.FIRST_HOST, network.LAST_HOST), strict=False))
    names: dict[str, list[str]] = {}
    keys = {}
    for name, number in numbers.items():
        further = [alias for alias, target in aliases.items() if target == name]
        for address in network.addresses(number):
            names[address] = [name, *further]
        public = access.make_key(folder / f"{name}.key")
        keys[name, network.address(number)] = " ".join(public.split()[:2]) + "\n"
    access.write_config(folder, lab.keeper.number, keys)
    private = {name: (folder / f"{name}.key").read_text() for name in numbers}
    return [
        Settings(name, number, private[name], authorized, names, shown)
        for name, number in numbers.items()
    ]
