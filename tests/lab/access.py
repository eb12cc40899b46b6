# SPDX-License-Identifier: Apache-2.0
"""How ssh gets into a lab: keys of the lab's own, and a configuration that names its hosts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab.command import run

#: The kernel's limit for a socket's path is 107; an address, a user, and 17 characters that ssh
#: adds while it makes one have to fit after the folder.
LONGEST_FOLDER = 60
MULTIPLEX = """\
    ControlMaster auto
    ControlPath {folder}/to-%h-%r
    ControlPersist 60
"""
CONNECT = Path(__file__).with_name("connect.py")


def make_key(path: Path) -> str:
    """Make a key; return its public half."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path))
    return path.with_name(f"{path.name}.pub").read_text()


def write_config(folder: Path, keeper: int, keys: Mapping[tuple[str, str], str]) -> None:
    """Let `ssh -F FOLDER/ssh_config HOST` work; keys are the hosts' by name and address."""
    known = [f"{name},{address} {key}" for (name, address), key in keys.items()]
    (folder / "known_hosts").write_text("".join(known))
    connect = f"nsenter --net=/proc/{keeper}/ns/net -- {sys.executable} -S {CONNECT} %h %p"
    blocks = [f"Host {name}\n    HostName {address}\n" for name, address in keys]
    common = f"""\
Host *
    User root
    IdentityFile {folder / "key"}
    IdentitiesOnly yes
    UserKnownHostsFile {folder / "known_hosts"}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    # The lab's network is not the machine's: this connects there and hands the connection over.
    ProxyCommand {connect}
    ProxyUseFdpass yes
    # A lab that is gone says no goodbye.
    ServerAliveInterval 5
"""
    multiplex = MULTIPLEX.format(folder=folder) if len(str(folder)) <= LONGEST_FOLDER else ""
    (folder / "ssh_config").write_text("".join(blocks) + common + multiplex)


def leave(folder: Path) -> None:
    """End the connections that ssh keeps open."""
    for path in folder.glob("to-*"):
        end = ["ssh", "-F", str(folder / "ssh_config"), "-S", str(path), "-O", "exit", "lab"]
        subprocess.run(end, capture_output=True)
