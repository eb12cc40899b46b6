# SPDX-License-Identifier: Apache-2.0
"""One host: what is known of it, how it starts, and how to reach it."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import network
from tests.lab.command import LabError
from tests.lab.keeper import REPOSITORY

#: A user of every host who may do nothing special.
USER = "labuser"
BOOT_SECONDS = 20


@dataclass(frozen=True)
class Settings:
    """What a host is to be."""

    name: str
    number: int
    host_key: str
    authorized_key: str
    #: Names by address, for its /etc/hosts.
    names: Mapping[str, Sequence[str]]
    #: Folders of the machine by where the host sees them.
    shown: Mapping[str, str]
    #: Whether systemd runs it, sshd as one of its units; else sshd is all that runs there.
    booted: bool = False

    @property
    def address(self) -> str:
        """Tell its address."""
        return network.address(self.number)

    def start(self, keeper: int, log: Path) -> int:
        """Start the host in the keeper's namespaces; return its first process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, log.open("wb") as output:
            # Tells the number of the process that sends, in our own namespace's terms.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.settimeout(BOOT_SECONDS)
            command = [*_namespaces(keeper), sys.executable, "-m", "tests.lab.init"]
            process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                cwd=REPOSITORY,
                env=self._environment(keeper),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            # The process outlives this one: it is not this object's to wait for.
            process.returncode = 0
            theirs.close()
            first = self._await(ours, log)
            network.plug_in(keeper, first, self.number)
            ours.send(b"!")
        return first

    def _environment(self, keeper: int) -> dict[str, str]:
        """Give the settings where no list of processes shows the host's key."""
        settings = {
            "name": self.name,
            "user": USER,
            "group": f"{group(keeper)}/{self.name}",
            "host_key": self.host_key,
            "authorized_key": self.authorized_key,
            "names": dict(self.names),
            # A host is another machine than the one with the checkout.
            "hidden": [str(REPOSITORY)],
            "shown": dict(self.shown),
            "booted": self.booted,
        }
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"LAB_HOST": json.dumps(settings), "PATH": path, "LANG": "C.UTF-8"}

    def _await(self, starter: socket.socket, log: Path) -> int:
        """Wait until the host is made; return its first process."""
        size = socket.CMSG_SPACE(struct.calcsize("3i"))
        try:
            word, ancillary, _, _ = starter.recvmsg(4096, size)
        except TimeoutError:
            word, ancillary = b"it takes too long", []
        if word != b"made":
            reason = word.decode() or log.read_text().strip().rpartition("\n")[2]
            raise LabError(f"the host {self.name} does not start: {reason}")
        (_, _, credentials) = ancillary[0]
        return int(struct.unpack("3i", credentials)[0])


def group(keeper: int) -> str:
    """Tell the control group of a lab."""
    return f"lab-{keeper}"


def _namespaces(keeper: int) -> list[str]:
    """Enter the lab's own namespaces, and from there the host's."""
    lab = f"/proc/{keeper}/ns"
    enter = ["nsenter", f"--pid={lab}/pid_for_children", f"--net={lab}/net", "--"]
    kinds = ["--mount", "--net", "--pid", "--ipc", "--uts"]
    return [*enter, "unshare", *kinds, "--fork", "--kill-child", "--"]


def command(process: int, *argv: str) -> list[str]:
    """Tell the command that runs a program on the host whose first process is given."""
    kinds = ["--mount", "--net", "--pid", "--ipc", "--uts", "--root", "--wd"]
    return ["nsenter", f"--target={process}", *kinds, "--", *argv]


def start_time(process: int) -> str:
    """Tell when a process started, in the kernel's ticks; nothing where it has ended."""
    try:
        status = Path("/proc", str(process), "stat").read_text()
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything.
    state, *fields = status.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]
