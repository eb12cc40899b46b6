# SPDX-License-Identifier: Apache-2.0
"""A lab's hosts are machines of their own, and a lab leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import lab
from tests.lab.command import LabError
from tests.lab.host import USER
from tests.lab.keeper import REPOSITORY
from tests.lab.lab import Lab
from tests.lab.root import LEFT


def traces() -> list[str]:
    """See what a lab could leave on the machine: interfaces, mounts, folders to mount on."""
    interfaces = [name for name in ("lab0", "port11") if Path("/sys/class/net", name).exists()]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "lab-" in line]
    return interfaces + mounts + [str(path) for path in Path("/mnt").iterdir()]


@pytest.fixture(scope="module")
def two_hosts() -> Iterator[Lab]:
    """Start two hosts, of which one has a further name; both are shown a folder."""
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        shown = Path(name, "shown")
        shown.mkdir()
        (shown / "file").write_text("to be seen")
        folder, aliases = Path(name, "lab"), {"quay.example": "one"}
        made = lab.up(folder, ["one", "two"], aliases, shown={"/opt/shown": str(shown)})
        yield made
        lab.down(made.folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Keep a lab in a folder, and end it whatever the test has done with it."""
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        yield Path(name, "lab")
        lab.down(Path(name, "lab"))


def ssh(made: Lab, host: str, command: str, user: str = "root") -> str:
    """Run a command on a host by ssh."""
    argv = ["ssh", "-F", str(made.folder / "ssh_config"), f"{user}@{host}", command]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.stdout + done.stderr


def wait_for_end(made: Lab) -> None:
    """Wait until no process of a lab runs."""
    deadline = time.monotonic() + 60
    while any(process.alive for process in [made.keeper, *made.hosts.values()]):
        assert time.monotonic() < deadline, "the lab still runs"
        time.sleep(0.02)


def test_a_host_sees_a_folder_and_changes_nothing_there(two_hosts: Lab) -> None:
    """A folder of the machine is at the host's own path, to be read only."""
    assert ssh(two_hosts, "two", "cat /opt/shown/file") == "to be seen"
    assert "Read-only" in ssh(two_hosts, "two", "touch /opt/shown/file")


def test_a_host_has_a_name_and_an_address(two_hosts: Lab) -> None:
    """A host is another machine for whoever logs in."""
    assert ssh(two_hosts, "one", "hostname").strip() == "one"
    addresses = ssh(two_hosts, "two", "ip -brief address show eth0")
    assert "198.51.100.12/24" in addresses
    assert "2001:db8:51::12/64" in addresses


def test_hosts_reach_each_other_by_name(two_hosts: Lab) -> None:
    """The hosts' names and their further names resolve on every host."""
    for name in ("one", "quay.example"):
        greeting = ssh(two_hosts, "two", f"exec 3<>/dev/tcp/{name}/22; head -1 <&3")
        assert greeting.startswith("SSH-2.0-")


def test_nothing_outside_is_reached(two_hosts: Lab) -> None:
    """A connection to elsewhere fails at once, and not after the minutes that Linux tries one."""
    started = time.monotonic()
    assert "unreachable" in ssh(two_hosts, "one", "exec 3<>/dev/tcp/203.0.113.1/443")
    assert time.monotonic() - started < 60


def test_a_host_sees_its_own_processes(two_hosts: Lab) -> None:
    """The first process is the host's own."""
    assert "tests.lab.init" in ssh(two_hosts, "one", "tr '\\0' ' ' </proc/1/cmdline")
    assert "pytest" not in ssh(two_hosts, "one", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_what_a_host_writes_is_its_own(two_hosts: Lab) -> None:
    """Neither the machine nor another host sees a change."""
    for path in ("/etc/lab-was-here", "/var/lib/lab-was-here", "/usr/bin/lab-was-here"):
        assert ssh(two_hosts, "one", f"touch {path} && ls {path}").strip() == path
        assert "No such file" in ssh(two_hosts, "two", f"ls {path}")
        assert not Path(path).exists()


def test_a_host_has_no_checkout(two_hosts: Lab) -> None:
    """What a role does not send is not there."""
    assert ssh(two_hosts, "one", f"ls -A {REPOSITORY} 2>/dev/null") == ""


def test_a_host_has_no_registry_of_the_machine(two_hosts: Lab) -> None:
    """Whatever somebody has tried there; and the machine keeps it."""
    before = {path: path.exists() for pattern in LEFT for path in Path("/").glob(pattern)}
    listed = ssh(two_hosts, "one", f"ls -d {' '.join(f'/{pattern}' for pattern in LEFT)} 2>&1")
    assert [line for line in listed.splitlines() if "No such file" not in line] == []
    assert all(path.exists() == there for path, there in before.items())


def test_a_host_has_control_groups(two_hosts: Lab) -> None:
    """Engines make groups of their own; the machine has them below the lab's."""
    groups = ssh(two_hosts, "one", "cut -d: -f3 /proc/self/cgroup | sort -u")
    assert groups.strip() == "/"
    make = 'for d in $(grep -oE " /sys/fs/cgroup[^ ]* cgroup" /proc/mounts | cut -d" " -f2)'
    assert ssh(two_hosts, "one", f"{make}; do mkdir $d/made-here || echo $d; done") == ""


def test_the_user_may_do_nothing_special(two_hosts: Lab) -> None:
    """The ordinary user has a home, ids for rootless containers, and no rights."""
    assert ssh(two_hosts, "one", "pwd; id -un", user=USER).split() == [f"/home/{USER}", USER]
    assert "ermission denied" in ssh(two_hosts, "one", "touch /etc/x", user=USER)
    assert USER in ssh(two_hosts, "one", "cat /etc/subuid", user=USER)


def test_a_command_runs_on_a_host(two_hosts: Lab) -> None:
    """`run` needs no sshd."""
    argv = [sys.executable, "-m", "tests.lab", "--folder", str(two_hosts.folder), "run", "two"]
    done = subprocess.run([*argv, "hostname"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "two\n", done.stderr


def test_a_host_that_is_not_there_is_named() -> None:
    """A mistake is answered by one line."""
    argv = [sys.executable, "-m", "tests.lab", "--folder", "/nonexistent", "run", "three", "true"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "lab: there is no lab in /nonexistent: make one by `up`\n"


def test_down_leaves_nothing(folder: Path) -> None:
    """The machine is as it was."""
    before = traces()
    made = lab.up(folder, ["one"], {})
    groups = f"lab-{made.keeper.number}"
    assert [*Path("/sys/fs/cgroup").glob(f"**/{groups}")]
    ssh(made, "one", "sleep 1000 >/dev/null 2>&1 &")
    lab.down(folder)
    assert not folder.exists()
    assert traces() == before
    assert not [*Path("/sys/fs/cgroup").glob(f"**/{groups}")]
    lab.down(folder)


def test_a_lab_that_was_killed_leaves_nothing(folder: Path) -> None:
    """The kernel ends every process with the keeper; the next lab takes the place."""
    before = traces()
    made = lab.up(folder, ["one"], {})
    os.kill(made.keeper.number, signal.SIGKILL)
    wait_for_end(made)
    assert traces() == before
    again = lab.up(folder, ["one"], {})
    assert ssh(again, "one", "hostname").strip() == "one"


def test_a_lab_ends_with_its_owner(folder: Path) -> None:
    """A test that is killed leaves no lab."""
    owner = subprocess.Popen(["sleep", "1000"])
    try:
        made = lab.up(folder, ["one"], {}, owner=owner.pid)
        assert made.hosts["one"].alive
    finally:
        owner.kill()
        owner.wait()
    wait_for_end(made)


def test_what_keeps_a_host_from_starting_is_said(folder: Path) -> None:
    """A lab that fails to start is gone, and one line says why."""
    with pytest.raises(LabError, match=r"^the host \S+ does not start: "):
        lab.up(folder, ["a" * 100], {})
    assert not folder.exists()
