# SPDX-License-Identifier: Apache-2.0
"""The role for an intermediate registry on a host that systemd runs: its unit is started for real.

The host is one of a lab (``tests/lab``), reached by ssh, with an address of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import lab, network
from tests.lab.lab import Lab
from tests.roles import harness
from tests.roles.harness import Desk, Run
from tests.waiting import wait_until

HOST = "registry"
PASSWORD = "correct horse battery"
ROOT = Path("/var/lib/intermediate-registry")
#: Asks by a new connection each time until it is told to end, and writes down what was answered.
ASKING = """
while [ ! -e /tmp/ended ]; do
    curl --silent --insecure --noproxy '*' --max-time 60 \
        --output /dev/null --write-out '%{http_code}\\n' --user "zuul:$1" \
        https://127.0.0.1:5000/v2/ || echo "failed with code $?"
done
"""


@dataclass
class Host:
    """The host, and what runs playbooks for it."""

    lab: Lab
    desk: Desk

    def run(self, *words: str) -> str:
        """Run a program on the host, as root."""
        done = subprocess.run(self.lab.command(HOST, *words), capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def play(self, **more: Any) -> Run:
        """Run the role."""
        user = {"name": "zuul", "password": PASSWORD, "access": "write"}
        role = {"role": "run_intermediate_registry", "intermediate_registry_users": [user]}
        tasks = {"hosts": "all", "gather_facts": False, "roles": [role]}
        inventory = str(self.desk.folder / "hosts.yml")
        run = self.desk.playbook(self.desk.write("play.yml", [tasks]), "-i", inventory, **more)
        assert run.code == 0, run.output[-4000:]
        assert PASSWORD not in run.output
        return run

    @property
    def unit(self) -> str:
        """Tell the name of the unit."""
        (path,) = self.run("sh", "-c", "ls /etc/systemd/system/buildset-registry*").split()
        return Path(path).name

    def told(self, name: str) -> str:
        """Tell what systemd says of the unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", self.unit)

    def answer(self) -> str:
        """Tell how the registry answers, or why it does not."""
        ask = ["curl", "--silent", "--show-error", "--noproxy", "*", "--output", "/dev/null"]
        ask += ["--cacert", f"{ROOT}/cert.pem", "--user", f"zuul:{PASSWORD}"]
        ask += ["--write-out", "%{http_code}", "https://localhost:5000/v2/"]
        done = subprocess.run(self.lab.command(HOST, *ask), capture_output=True, text=True)
        return done.stdout + done.stderr

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Have somebody ask all the time, whom nothing may befall."""
        words = self.lab.command(HOST, "sh", "-c", ASKING, "asking", PASSWORD)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
            try:
                yield
            finally:
                self.run("touch", "/tmp/ended")  # noqa: S108  # the host's own
            said = client.communicate()[0].split("\n")
        assert set(said) == {"200", ""}, said


def up(host: Host) -> bool:
    """Tell whether systemd has started what there is."""
    words = host.lab.command(HOST, "systemctl", "is-system-running")
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() == "running"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host that systemd runs, with no registry yet."""
    made = lab.up(tmp_path / "lab", [HOST], {}, booted=True)
    desk = Desk(tmp_path, harness.ansible_environment("newest"), seconds=250)
    desk.home.mkdir()
    desk.within = ("nsenter", f"--net=/proc/{made.keeper.number}/ns/net", "--")
    desk.variables = {"buildset_registry_package": str(harness.wheelhouse())}
    facts = {
        "ansible_host": network.address(network.FIRST_HOST),
        "ansible_user": "root",
        "ansible_python_interpreter": str(harness.base_python()),
        "ansible_ssh_common_args": f"-F {made.folder}/ssh_config",
        "ansible_ssh_pipelining": True,
    }
    (desk.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {HOST: facts}}}))
    booted = Host(made, desk)
    try:
        wait_until(lambda: up(booted), "systemd has booted")
        yield booted
    finally:
        lab.down(made.folder)


@pytest.mark.timeout(300)
def test_systemd_starts_confines_restarts_and_upgrades_it(host: Host) -> None:
    """A second run changes nothing, nobody is refused by an upgrade, and nothing is left."""
    assert host.play().recap["changed"] > 0
    assert host.answer() == "200"
    assert (host.told("ActiveState"), host.told("UnitFileState")) == ("active", "enabled")
    assert (host.told("NoNewPrivileges"), host.told("ProtectSystem")) == ("yes", "strict")
    status = Path("/proc", host.told("MainPID"), "status")
    assert "CapEff:\t0000000000000000" in host.run("cat", str(status))
    assert host.play().recap["changed"] == 0

    killed = host.told("MainPID")
    host.run("kill", "-KILL", killed)
    wait_until(lambda: host.told("MainPID") != killed and host.answer() == "200", "it is back")

    before = host.told("MainPID")
    with host.asking():
        host.play(intermediate_registry_settings={"limits": {"shutdown_seconds": 20}})
    assert host.told("MainPID") != before
    assert host.told("TimeoutStopUSec") == "50s"

    host.play(intermediate_registry_state="absent")
    units = host.run("ls", "/etc/systemd/system").split()
    assert not [name for name in units if name.startswith("buildset")]
    assert ROOT.name not in host.run("ls", str(ROOT.parent)).split()
    assert host.run("systemctl", "is-system-running") == "running"
