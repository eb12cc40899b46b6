# SPDX-License-Identifier: Apache-2.0
"""The first process of a host: it makes the host's root and settings, runs sshd, reaps orphans.
Of a host that is booted it becomes systemd, which does so in its place.

It is started by `Host.start`, which hands it a socket and the settings; each of the two says one
word when the other may go on.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab import cgroup, root
from tests.lab.command import LabError, run

SSH = Path("/etc/ssh/lab")
SSHD = """\
HostKey /etc/ssh/lab/host_key
AuthorizedKeysFile /etc/ssh/lab/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
# Ansible's processes for every host of a test may come at once.
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
# What logind does where systemd runs the host.
Match User {user}
    SetEnv XDG_RUNTIME_DIR={folder}
"""
UNIT = """\
[Service]
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/lab/sshd_config
RuntimeDirectory=sshd
KillMode=process
"""


def write_settings(settings: dict[str, Any]) -> None:
    """Write what differs from the machine's own /etc."""
    # '*' is no password at all; the default is a locked account, which sshd refuses.
    user = settings["user"]
    run("useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", user)
    entry = pwd.getpwnam(user)
    folder = Path("/run/user", str(entry.pw_uid))
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    SSH.mkdir()
    (SSH / "sshd_config").write_text(SSHD.format(user=user, folder=folder))
    (SSH / "authorized_keys").write_text(settings["authorized_key"])
    (SSH / "host_key").touch(mode=0o600)
    (SSH / "host_key").write_text(settings["host_key"])
    hosts = {"127.0.0.1": ["localhost"], "::1": ["localhost"], **settings["names"]}
    lines = [" ".join([address, *names]) for address, names in hosts.items()]
    Path("/etc/hosts").write_text("\n".join(lines) + "\n")
    Path("/etc/hostname").write_text(settings["name"] + "\n")
    socket.sethostname(settings["name"])
    resolver = Path("/etc/resolv.conf")
    # Often a link to a file in /run, which is empty here.
    resolver.unlink(missing_ok=True)
    resolver.touch()
    Path("/run/sshd").mkdir()


def serve() -> None:
    """Run sshd for as long as the host lives."""
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(SSH / "sshd_config")])
    while os.wait()[0] != sshd.pid:
        pass


def boot() -> None:
    """Become systemd, with sshd as the one service: of the machine's own units none is started."""
    for folder in ("/etc/systemd/system", "/lib/systemd/system"):
        for wants in Path(folder).glob("*.wants"):
            shutil.rmtree(wants)
    units = Path("/etc/systemd/system")
    (units / "lab-sshd.service").write_text(UNIT)
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants" / "lab-sshd.service").symlink_to("../lab-sshd.service")
    # It says nothing anywhere else.
    Path("/dev/console").touch()
    words = ["systemd", "--unit=multi-user.target", "--log-target=console"]
    # As systemd asks those to say that boot it in a container (container(7)).
    environment = {"PATH": os.environ["PATH"], "container": "lab"}
    os.execve("/lib/systemd/systemd", words, environment)  # noqa: S606  # it needs no shell


def main(descriptor: int) -> None:
    """Become a host."""
    starter = socket.socket(fileno=descriptor)
    settings = json.loads(os.environ.pop("LAB_HOST"))
    try:
        cgroup.join(settings["group"])
        made = root.make(map(Path, settings["hidden"]), settings["shown"])
        cgroup.mount(made)
        root.enter(made)
        os.chdir("/")
        write_settings(settings)
    except (LabError, OSError) as error:
        starter.send(str(error).encode())
        sys.exit(1)
    starter.send(b"made")
    starter.recv(1)
    starter.close()
    if settings["booted"]:
        boot()
    serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
