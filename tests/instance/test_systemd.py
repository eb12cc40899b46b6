# SPDX-License-Identifier: Apache-2.0
"""The unit file. systemd does not run the machines of the tests, so it is checked by its own tools:
``systemd-analyze verify`` and ``security``. It is started by systemd in tests/roles/test_booted.py.
"""

import re
import subprocess
from pathlib import Path

import pytest
from buildset_registry.config import parse
from buildset_registry.instance.paths import InstancePaths, default_root
from buildset_registry.instance.probe import Probe
from buildset_registry.instance.systemd import Needs, unit_name, unit_text

DEFAULT = Path("/var/lib/buildset-registry")


def analyze(command: str, unit: Path, *options: str) -> str:
    """Run systemd-analyze on a unit file and return what it says."""
    argv = ["systemd-analyze", command, *options, str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("root", "ports", "log"),
    [
        (DEFAULT, (5000, 5001), DEFAULT / "log" / "registry.log"),
        (DEFAULT, (443,), Path("/home/zuul/zuul-output/logs/registry.log")),
        (Path("/srv/with a space/100%"), (5000,), None),
    ],
)
def test_systemd_accepts_the_unit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    ports: tuple[int, ...],
    log: Path | None,
) -> None:
    """No warning, and an exposure that systemd calls OK."""
    monkeypatch.setenv("HTTPS_PROXY", 'http://user:100%"@proxy.example:3128')
    unit = tmp_path / "buildset-registry.service"
    unit.write_text(unit_text(InstancePaths(root), Needs(ports=ports, log=log)))
    assert analyze("verify", unit) == ""
    verdict = analyze("security", unit, "--offline=true")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", verdict)
    assert found
    level = float(found[1])
    assert level < 3, verdict


def test_rights_are_only_those_that_are_needed() -> None:
    """A low port takes one right, a log in a user's folder another; without, there is none."""
    plain = unit_text(
        InstancePaths(DEFAULT),
        Needs(ports=(5000, 5001), log=DEFAULT / "log" / "registry.log"),
    )
    assert "CapabilityBoundingSet=\n" in plain
    assert "ReadWritePaths=/var/lib/buildset-registry\n" in plain
    low = unit_text(InstancePaths(DEFAULT), Needs(ports=(443,)))
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in low
    job = unit_text(
        InstancePaths(DEFAULT), Needs(ports=(5000,), log=Path("/home/zuul/logs/registry.log"))
    )
    assert "CapabilityBoundingSet=CAP_DAC_OVERRIDE\n" in job
    assert "ReadWritePaths=/var/lib/buildset-registry /home/zuul/logs\n" in job


@pytest.mark.parametrize(("limit", "told"), [(30, "60"), (600, "630"), (0, "infinity")])
def test_systemd_waits_as_long_as_running_requests_may_take(limit: int, told: str) -> None:
    """What it kills before would break transfers that the limit lets end."""
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "memory"}
    config = parse({**tree, "limits": {"shutdown_seconds": limit}}, "config.yaml", DEFAULT)
    paths = InstancePaths(DEFAULT)
    text = unit_text(paths, Needs.of(config, Probe.of(config, paths)))
    assert f"TimeoutStopSec={told}\n" in text


def test_each_folder_has_a_unit_of_its_own() -> None:
    """Two registries on one host do not share a name."""
    assert unit_name(InstancePaths(default_root())) == "buildset-registry.service"
    other = unit_name(InstancePaths(Path("/srv/registry")))
    assert re.fullmatch(r"buildset-registry-[0-9a-f]{8}\.service", other)


def test_system_calls_are_within_the_filter(tmp_path: Path) -> None:
    """Every group and call that the unit names exists in this systemd."""
    text = unit_text(InstancePaths(DEFAULT), Needs(ports=(5000,)))
    words = ["systemd-analyze", "syscall-filter"]
    known = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    named = " ".join(re.findall(r"SystemCallFilter=~?(.*)", text)).split()
    assert {"@system-service", "@resources", "setpriority"} <= set(named) <= set(known)
