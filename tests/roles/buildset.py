# SPDX-License-Identifier: Apache-2.0
"""The nodes of a buildset: hosts of a lab with podman, dockerd, buildx and a user with sudo.

Another host is every public registry. The executor is in their network, and reaches them by ssh.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import trustme

from tests.lab import lab, network
from tests.lab.host import USER
from tests.lab.lab import Lab
from tests.roles.executor import Job
from tests.roles.harness import CACHE, Desk, base_python

#: Our role alone configures the one; on the other one the roles of zuul-jobs do so as well.
NODES = PLAIN, BESIDE = ("plain", "beside")
PUBLIC = "public"
NAMES = ("quay.io", "registry-1.docker.io")
NAMESPACES = [["docker.io", "https://registry-1.docker.io"], ["quay.io", "https://quay.io"]]
SECONDS = 60
#: For a playbook that builds, on a machine that does much else.
PLAYBOOK_SECONDS = 300
BUILDKIT = "moby/buildkit:buildx-stable-1"
APPLETS = ("cat", "cp", "sh", "umount")
#: What the package ca-certificates has, in a container that has no other.
TRUST = "#!/bin/sh\ncat /usr/local/share/ca-certificates/* >>/etc/ssl/certs/ca-certificates.crt\n"
#: A machine that has not every right cannot give all of them to a privileged container.
RUNTIME = r"""#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
for option, name in (("--bundle", "config.json"), ("--process", "")):
    if option in words:
        path = os.path.join(words[words.index(option) + 1], name).rstrip("/")
        with open(path) as file:
            config = json.load(file)
        rights = config.get("process", config).get("capabilities") or {}
        for kind in rights:
            rights[kind] = [name for name in rights[kind] if name != "CAP_SYS_RESOURCE"]
        with open(path, "w") as file:
            json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""
RESTART = r"""#!/bin/sh
pid=/var/run/docker.pid
[ ! -e $pid ] || kill $(cat $pid)
timeout 60 sh -c "while [ -e $pid ]; do sleep 0.05; done"
setsid dockerd >>/tmp/dockerd.log 2>&1 </dev/null &
timeout 60 sh -c 'until docker version; do sleep 0.05; done'
"""
STORAGE = """\
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
DAEMON = {
    "iptables": False,
    "bridge": "none",
    "ip-forward": False,
    "default-runtime": "bounded",
    "runtimes": {"bounded": {"path": "/usr/local/bin/bounded"}},
}
PREPARE = f"""
set -e
echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
groupadd --force docker
usermod --append --groups docker {USER}
mkdir -p /usr/local/lib/docker/cli-plugins /etc/docker
ln -s /opt/tools/buildx /usr/local/lib/docker/cli-plugins/docker-buildx
cp /opt/nodes/bounded /opt/nodes/restart-docker /usr/local/bin
cp /opt/nodes/daemon.json /etc/docker
cp /opt/nodes/storage.conf /etc/containers
cp /opt/nodes/public.crt /usr/local/share/ca-certificates
rm -f /etc/ca-certificates/update.d/jks-keystore # no Java, whose store takes seconds
update-ca-certificates >/dev/null
restart-docker >/dev/null
docker import --change 'ENTRYPOINT ["buildkitd"]' --change 'ENV PATH=/bin' \
    /opt/nodes/buildkit.tar {BUILDKIT} >/dev/null
install --owner {USER} --directory /home/{USER}/build
"""
#: What clients read, with its content, its mode and its owner.
FILES = f"""
find /etc /root /home/{USER} /usr/local/share/ca-certificates ! -type d \
    ! -path '*/.ansible/*' ! -path '*/.local/*' ! -path '*/.cache/*' ! -path '*/.config/cni/*' \
    ! -path '*/.docker/buildx/*' ! -path '*/build/*' \
    -printf '%m %u %l %p\\n' -type f -exec sha256sum {{}} + | sort
"""


class Nodes:
    """A lab with what its hosts need, and ways to look at them."""

    def __init__(self, folder: Path, made: Lab) -> None:
        self.folder = folder
        self.lab = made

    def run(self, host: str, script: str, user: str = "root") -> str:
        """Run a script on a host, as a user who has just logged in."""
        words = [*self.lab.command(host, "su", "--login", user, "--command", script)]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, f"{host}: {done.stdout}{done.stderr}"
        return done.stdout

    def on_all(self, script: str) -> None:
        """Run a script on all nodes at once, as root."""
        log = self.folder / "prepared.log"
        with log.open("w") as output:
            commands = [self.lab.command(node, "sh", "-c", script) for node in NODES]
            running = [subprocess.Popen(one, stdout=output, stderr=output) for one in commands]
            codes = [one.wait() for one in running]
        assert not any(codes), log.read_text()

    def files(self, host: str) -> dict[str, str]:
        """Tell the files that clients read, each with its mode, owner and content's digest."""
        return _told(self.run(host, FILES))

    def kept(self, host: str, path: str) -> dict[str, str]:
        """Tell those that were listed in a file at an earlier time."""
        return _told(self.run(host, f"cat {path}"))

    def inventory(self) -> dict[str, dict[str, Any]]:
        """Tell the nodes as Zuul's executor does."""
        addresses = (network.address(network.FIRST_HOST + one) for one in range(len(NODES)))
        return {
            node: {
                "ansible_connection": "ssh",
                "ansible_host": address,
                "ansible_user": USER,
                "ansible_python_interpreter": str(base_python()),
                "ansible_ssh_common_args": f"-F {self.lab.folder}/ssh_config",
                "ansible_ssh_pipelining": True,
                "nodepool": {"private_ipv4": address},
            }
            for node, address in zip(NODES, addresses, strict=True)
        }

    def job(self, desk: Desk, clone: Path, version: str) -> NodesJob:
        """Make a job whose executor is in the nodes' network."""
        desk.seconds = PLAYBOOK_SECONDS
        desk.within = ("nsenter", f"--net=/proc/{self.lab.keeper.number}/ns/net", "--")
        return NodesJob(desk, clone, version, self)


def _told(listed: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in listed.splitlines():
        what, _space, path = line.rpartition(" ")
        found[path] = found.get(path, "") + what
    return found


class NodesJob(Job):
    """A job with several nodes, which are other machines than the executor."""

    def __init__(self, desk: Desk, clone: Path, version: str, nodes: Nodes) -> None:
        self.nodes = nodes.inventory()
        super().__init__(desk, clone, version, host=NODES[0])

    def write_facts(self) -> None:
        """Write what Zuul has gathered of every node."""
        facts = {"ansible_user_dir": f"/home/{USER}", "_ansible_facts_gathered": True}
        cache = self.root / "fact-cache"
        cache.mkdir()
        for node in self.nodes:
            (cache / node).write_text(json.dumps(facts))

    def inventory(self, variables: dict[str, Any]) -> Path:
        """Write the inventory with all nodes."""
        path = super().inventory(variables)
        tree = json.loads(path.read_text())
        tree["all"]["hosts"] = self.nodes
        path.write_text(json.dumps(tree))
        return path


def write_files(folder: Path) -> None:
    """Write what the hosts are shown."""
    authority = trustme.CA()
    leaf = authority.issue_cert(*NAMES)
    authority.cert_pem.write_to_path(folder / "public.crt")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "public.pem")
    pem = "/opt/nodes/public.pem"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/var/lib/public"}},
        "http": {"addr": ":443", "secret": "of-the-lab", "tls": {"certificate": pem, "key": pem}},
    }
    (folder / "public.json").write_text(json.dumps(settings))
    (folder / "daemon.json").write_text(json.dumps(DAEMON))
    (folder / "storage.conf").write_text(STORAGE)
    for name, text in {"bounded": RUNTIME, "restart-docker": RESTART}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    shutil.copy(Path(__file__).with_name("zuul_jobs_node.py"), folder)
    write_buildkit(folder / "buildkit.tar")


def write_buildkit(path: Path) -> None:
    """Write the files of the image from which buildx makes its builders."""
    with tarfile.open(path, "w") as image:
        for program in ("buildkitd", "buildctl"):
            image.add(CACHE / "go" / "bin" / program, f"bin/{program}")
        image.add("/bin/busybox", "bin/busybox")
        # Nothing is run while an image is built here; BuildKit wants to see a runtime.
        for name in (*APPLETS, "runc"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            image.addfile(link)
        for name in ("tmp", "etc/ssl/certs", "usr/local/share/ca-certificates"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            image.addfile(folder)
        trust = tarfile.TarInfo("bin/update-ca-certificates")
        trust.mode, trust.size = 0o755, len(TRUST)
        image.addfile(trust, BytesIO(TRUST.encode()))


@contextmanager
def running(folder: Path, program: Path) -> Iterator[Nodes]:
    """Start the hosts and their daemons; the nodes have the registry's program, to be read only."""
    shown = {"/opt/nodes": folder / "shown", "/opt/tools": CACHE / "go" / "bin", program: program}
    (folder / "shown").mkdir()
    write_files(folder / "shown")
    aliases = dict.fromkeys(NAMES, PUBLIC)
    paths = {str(target): str(source) for target, source in shown.items()}
    with ExitStack() as stack:
        made = lab.up(folder / "lab", [*NODES, PUBLIC], aliases, shown=paths)
        stack.callback(lab.down, made.folder)
        nodes, log = Nodes(folder, made), folder / "public.log"
        serve = made.command(PUBLIC, "docker-registry", "serve", "/opt/nodes/public.json")
        with log.open("w") as output:
            public = subprocess.Popen(serve, stdout=output, stderr=output)
        # It ends with its host, and is waited for then.
        stack.enter_context(public)
        stack.callback(lab.down, made.folder)
        nodes.on_all(PREPARE)
        deadline = time.monotonic() + SECONDS
        while "listening on" not in log.read_text():
            assert public.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield nodes
