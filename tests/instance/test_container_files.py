# SPDX-License-Identifier: Apache-2.0
"""The files of ``container/``: the unit for podman, and that all of them say the same.

The podman of the tests is older than quadlets, so the generator of a newer one is built: what it
makes of the file is verified by systemd's own tool. The keys are those of the first podman that
knows health checks in quadlets (podman-systemd.unit(5)).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stores.programs import go_tool

FOLDER = Path(__file__).resolve().parents[2] / "container"
QUADLET = FOLDER / "buildset-registry.container"
#: The keys of [Container] that podman 4.4, the first that has quadlets, or 4.5 knows: with the
#: health checks, which came with 4.5.
KEYS = {
    *("AddCapability", "AddDevice", "Annotation", "ContainerName", "DropCapability"),
    *("Environment", "EnvironmentFile", "EnvironmentHost", "Exec", "ExposeHostPort", "Group"),
    *("HealthCmd", "HealthInterval", "HealthOnFailure", "HealthRetries", "HealthStartPeriod"),
    *("HealthStartupCmd", "HealthTimeout", "Image", "IP", "IP6", "Label", "LogDriver", "Mount"),
    *("Network", "NoNewPrivileges", "Notify", "PodmanArgs", "PublishPort", "ReadOnly", "Rootfs"),
    *("RunInit", "SeccompProfile", "Secret", "Timezone", "Tmpfs", "User", "UserNS", "Volume"),
    "VolatileTmp",
}


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the settings of a unit file by section."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if head := re.fullmatch(r"\[([\w-]+)\]", line):
            found[head[1]] = []
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found[list(found)[-1]].append((key, value))
    return found


def container() -> dict[str, list[str]]:
    """Return the settings of the container, each with its values."""
    found: dict[str, list[str]] = {}
    for key, value in sections(QUADLET.read_text())["Container"]:
        found.setdefault(key, []).append(value)
    return found


def service() -> dict[str, Any]:
    """Return the one service of the compose file."""
    tree = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    found: dict[str, Any] = tree["services"]["registry"]
    return found


def instructions(name: str) -> list[str]:
    """Return what an instruction of the Containerfile says, each time it is there."""
    text = (FOLDER / "Containerfile").read_text().replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(name)]


def test_podman_knows_every_key_of_the_quadlet() -> None:
    """An unknown one is a unit that is not made, and a line in a log that nobody reads."""
    assert set(container()) - KEYS == set()


def generated(tmp_path: Path, *options: str) -> str:
    """Return the unit that podman makes of the file, in a dry run."""
    units = tmp_path / "containers"
    units.mkdir()
    (units / QUADLET.name).write_text(QUADLET.read_text())
    done = subprocess.run(
        [go_tool("quadlet"), "-dryrun", *options],
        env=os.environ | {"QUADLET_UNIT_DIRS": str(units)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    head, _line, text = done.stdout.partition("---buildset-registry.service---\n")
    assert (head, "unsupported key" in done.stderr) == ("", False), done.stderr
    return text


@pytest.mark.parametrize("whose", ["user", "system"])
def test_systemd_accepts_the_unit_that_podman_makes(tmp_path: Path, whose: str) -> None:
    """For an ordinary user and for root; it runs what the file says."""
    unit = tmp_path / "buildset-registry.service"
    unit.write_text(generated(tmp_path, *(["-user"] if whose == "user" else [])))
    # The user's other units name sockets below this folder, and a socket's path is short.
    with tempfile.TemporaryDirectory(dir="/tmp") as runtime:
        done = subprocess.run(
            ["systemd-analyze", f"--{whose}", "verify", str(unit)],
            env=os.environ | {"XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    found = dict(sections(unit.read_text())["Service"])
    words, one = shlex.split(found["ExecStart"]), container()
    assert words[1:4] == ["run", "--name", *one["ContainerName"]]
    assert words[-5:] == [*one["Image"], *shlex.split(one["Exec"][0])]
    rights = {"--read-only", "--security-opt=no-new-privileges", "--cap-drop", "all"}
    assert rights | set(one["PodmanArgs"]) < set(words)
    health = words[words.index("--health-cmd") + 1]
    assert [health] == one["HealthCmd"]
    assert found["TimeoutStopSec"] == "70"


def test_quadlet_and_compose_run_it_alike() -> None:
    """Without rights, on the same ports and volume, with the same health check and time to end."""
    unit, one = container(), service()
    assert unit["Image"] == [one["image"]]
    assert unit["PublishPort"] == one["ports"]
    assert unit["Volume"] == one["volumes"]
    assert (unit["ReadOnly"], one["read_only"]) == (["true"], True)
    assert (unit["NoNewPrivileges"], one["security_opt"]) == (["true"], ["no-new-privileges:true"])
    assert (unit["DropCapability"], one["cap_drop"]) == (["all"], ["ALL"])
    assert shlex.split(unit["Exec"][0])[:-1] == one["command"][:-1]
    assert f"{unit['PodmanArgs'][0].partition('=')[2]}s" == one["stop_grace_period"]
    health = one["healthcheck"]
    assert ["CMD", *unit["HealthCmd"][0].split()] == health["test"]
    times = [unit[f"Health{name}"][0] for name in ("Interval", "Timeout", "StartPeriod")]
    assert times == [health[name] for name in ("interval", "timeout", "start_period")]


def test_the_image_is_what_both_expect() -> None:
    """Its ports, its volume, its health check, and a user who is not root."""
    (health,) = instructions("HEALTHCHECK")
    assert yaml.safe_load(health.partition("CMD")[2]) == service()["healthcheck"]["test"][1:]
    (volume,) = instructions("VOLUME")
    assert service()["volumes"] == [f"buildset-registry:{volume}"]
    (ports,) = instructions("EXPOSE")
    assert [f"{port}:{port}" for port in ports.split()] == service()["ports"]
    assert instructions("USER") == ["10001:10001"]
