# SPDX-License-Identifier: Apache-2.0
"""The role that runs a registry, at a desk: as root, as an ordinary user, and what goes wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.harness import Desk, get

ROLE = "run_buildset_registry"
KEYS = {"host", "port", "push_host", "push_port", "username", "password", "cert"}


@pytest.mark.parametrize("version", ["2.16", "2.18", "newest"])
def test_from_nothing_to_facts_that_work(make_desk: MakeDesk, version: str) -> None:
    """The role starts a registry; a second run changes nothing."""
    desk = make_desk(version)
    run = desk.role(ROLE)
    assert run.code == 0, run.output
    assert run.facts
    assert set(run.facts) >= KEYS
    assert get(run.facts) == 200
    assert get(run.facts, "push_") == 401
    assert get(run.facts, "push_", login=True) == 200
    again = desk.role(ROLE)
    assert again.recap["changed"] == 0, again.output
    assert again.facts == run.facts
    assert "DEPRECATION" not in run.output


def test_ordinary_user_without_sudo(ordinary_desk: Desk) -> None:
    """No right but the user's own is needed."""
    run = ordinary_desk.role(ROLE)
    assert run.code == 0, run.output
    assert run.facts
    assert get(run.facts) == 200
    assert ordinary_desk.role(ROLE).recap["changed"] == 0


def test_stopped_and_absent(desk: Desk) -> None:
    """Stopping keeps what the registry holds, removing does not; both may be repeated."""
    first = desk.role(ROLE)
    assert first.facts
    root = Path(desk.variables["buildset_registry_root"])
    assert desk.role(ROLE, "--check", buildset_registry_state="stopped").recap["changed"] == 1
    assert desk.role(ROLE, buildset_registry_state="stopped").recap["changed"] == 1
    with pytest.raises(ConnectionRefusedError):
        get(first.facts)
    assert desk.role(ROLE, buildset_registry_state="stopped").recap["changed"] == 0
    assert desk.role(ROLE).facts == first.facts
    assert desk.role(ROLE, "--check", buildset_registry_state="absent").recap["changed"] == 1
    assert desk.role(ROLE, buildset_registry_state="absent").recap["changed"] == 1
    assert not root.exists()
    assert desk.role(ROLE, buildset_registry_state="absent").recap["changed"] == 0


def test_check_mode_makes_nothing(desk: Desk) -> None:
    """In check mode nothing is made, and what would be is told."""
    run = desk.role(ROLE, "--check", "--diff")
    assert run.code == 0, run.output
    assert run.recap["changed"] == 1
    assert not Path(desk.variables["buildset_registry_root"]).exists()
    desk.role(ROLE)
    assert desk.role(ROLE, "--check", "--diff").recap["changed"] == 0


def test_check_mode_before_anything_is_installed(desk: Desk) -> None:
    """Check mode works on a node that has nothing yet."""
    run = desk.role(ROLE, "--check", buildset_registry_venv=str(desk.folder / "venv"))
    assert run.code == 0, run.output
    assert run.recap["changed"] == 2
    assert not (desk.folder / "venv").exists()


def test_stopping_where_nothing_is_installed(desk: Desk) -> None:
    """There is nothing to stop on a node that never had the program."""
    venv = str(desk.folder / "venv")
    run = desk.role(ROLE, buildset_registry_state="stopped", buildset_registry_venv=venv)
    assert run.code == 0, run.output
    assert run.recap["changed"] == 0


def test_one_port_serves_both_endpoints(desk: Desk) -> None:
    """Tools that know one port find both endpoints there."""
    run = desk.role(ROLE, buildset_registry_single_port=True)
    assert run.facts, run.output
    assert run.facts["push_port"] == run.facts["port"]
    assert get(run.facts, login=True) == 200


def test_proxy_for_docker(desk: Desk) -> None:
    """The facts have its port as long as it is asked for."""
    told = {"buildset_registry_proxy_port": free_port()}
    plain = desk.role(ROLE, **told)
    assert plain.facts, plain.output
    assert "proxy_port" not in plain.facts
    run = desk.role(ROLE, buildset_registry_docker_every_registry=True, **told)
    assert run.facts, run.output
    assert run.facts["proxy_port"] == told["buildset_registry_proxy_port"]
    assert get(run.facts) == 200


def test_how_long_tags_hold(desk: Desk) -> None:
    """A number of seconds is asked for, 0 among them; without one a tag holds for ever."""
    for seconds in (600, 0):
        run = desk.role(ROLE, buildset_registry_tag_seconds=seconds)
        assert run.facts, run.output
        assert configuration(desk)["pull_through"] == {"tag_seconds": seconds}
    assert desk.role(ROLE).facts
    assert "pull_through" not in configuration(desk)


def test_lock_of_images_on_the_controller(desk: Desk) -> None:
    """It is replayed as long as it is asked for; a broken one is one line that names its place."""
    lock = desk.folder / "images.lock.json"
    images = {"docker.io/library/app:1": {"digest": f"sha256:{64 * 'a'}"}}
    lock.write_text(json.dumps({"version": 1, "images": images}))
    told = {"buildset_registry_lock": str(lock), "buildset_registry_lock_mode": "strict"}
    run = desk.role(ROLE, **told)
    assert run.facts, run.output
    kept = "lock/images.lock.json"
    assert configuration(desk)["lock"] == {"file": kept, "mode": "strict"}
    root = Path(desk.variables["buildset_registry_root"])
    assert (root / kept).read_bytes() == lock.read_bytes()
    assert desk.role(ROLE, **told).recap["changed"] == 0
    lock.write_text("{")
    broken = desk.role(ROLE, **told)
    assert broken.code != 0
    assert "images.lock.json is not JSON: line 1, column 2" in broken.output
    without = desk.role(ROLE, buildset_registry_lock_mode="strict")
    assert without.code != 0
    assert "lock_mode is strict, and there is no lock" in without.output
    assert desk.role(ROLE).facts
    assert "lock" not in configuration(desk)


def configuration(desk: Desk) -> dict[str, Any]:
    """Read what the registry is configured with."""
    path = Path(desk.variables["buildset_registry_root"], "config.yaml")
    said: dict[str, Any] = yaml.safe_load(path.read_text())
    return said


def test_changed_settings_restart_the_registry(desk: Desk) -> None:
    """Another port takes effect, and the credentials stay."""
    first = desk.role(ROLE)
    assert first.facts
    port = free_port()
    second = desk.role(ROLE, buildset_registry_port=port)
    assert second.facts, second.output
    assert second.recap["changed"] == 1
    assert second.facts["port"] == port
    assert second.facts["password"] == first.facts["password"]
    assert get(second.facts) == 200


def test_a_port_that_is_taken_is_named(desk: Desk) -> None:
    """A port that something else uses is named in one line, with the place of the log."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104
        other.listen()
        port = other.getsockname()[1]
        run = desk.role(ROLE, buildset_registry_port=port)
        assert run.code != 0
        assert str(port) in run.message
        assert "\n" not in run.message
    repaired = desk.role(ROLE)
    assert repaired.code == 0, repaired.output


def test_root_that_cannot_be_written(desk: Desk) -> None:
    """A folder that cannot be made is named."""
    (desk.folder / "file").touch()
    root = desk.folder / "file" / "root"
    run = desk.role(ROLE, buildset_registry_root=str(root))
    assert run.code != 0
    assert str(desk.folder / "file") in run.message
    assert "\n" not in run.message


def test_root_of_somebody_else(ordinary_desk: Desk) -> None:
    """An ordinary user is told that a folder of the system is not writable."""
    run = ordinary_desk.role(ROLE, buildset_registry_root="/proc/registry")
    assert run.code != 0
    assert "/proc/registry" in run.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buildset_registry_port", "many"),
        ("buildset_registry_upstreams", "docker.io"),
        ("buildset_registry_upstreams", [{"url": "https://registry.example.com"}]),
        ("buildset_registry_anonymous_pull", "perhaps"),
        ("buildset_registry_state", "running"),
        ("buildset_registry_supervisor", "cron"),
    ],
)
def test_a_variable_of_a_wrong_type_is_refused(desk: Desk, name: str, value: Any) -> None:
    """A variable of a wrong type is refused by its name before anything is done."""
    run = desk.role(ROLE, **{name: value})
    assert run.code != 0
    assert name in run.message
    assert not Path(desk.variables["buildset_registry_root"]).exists()


def test_upstreams_are_added_by_name(desk: Desk) -> None:
    """Details are added to the namespaces by name; an unknown name is another upstream."""
    run = desk.role(
        ROLE,
        buildset_registry_namespaces=[["docker.io", "https://registry.example.com"]],
        buildset_registry_upstreams=[
            {"name": "docker.io", "mirror": "https://mirror.example.com"},
            {"name": "quay.io", "url": "https://quay.example.com"},
        ],
    )
    assert run.code == 0, run.output
    written = (Path(desk.variables["buildset_registry_root"]) / "config.yaml").read_text()
    for part in ("registry.example.com", "mirror.example.com", "quay.example.com"):
        assert part in written
    assert "gcr.io" not in written


def test_no_upstream_at_all(desk: Desk) -> None:
    """An empty list is not one that was left out: nothing is asked that is not listed."""
    run = desk.role(ROLE, buildset_registry_namespaces=[])
    assert run.code == 0, run.output
    written = (Path(desk.variables["buildset_registry_root"]) / "config.yaml").read_text()
    assert yaml.safe_load(written)["upstreams"] == []


@pytest.mark.parametrize("version", ["2.16", "newest"])
def test_what_cannot_be_meant_is_told(make_desk: MakeDesk, version: str) -> None:
    """Before a task that passwords pass through, whose output is hidden with the reason."""
    desk = make_desk(version)
    pair = 'is not a list of a name and a URL; write [quay.io, "https://quay.io"]'
    for odd in (["quay.io"], [["quay.io"]], [["quay.io", "https://quay.io", "x"]], [3], None):
        run = desk.role(ROLE, "--check", buildset_registry_namespaces=odd)
        assert run.code != 0
        assert run.message.startswith("buildset_registry_namespaces: ")
        assert pair in run.message
    run = desk.role(ROLE, "--check", buildset_registry_lock="/none/there.json")
    assert run.code != 0
    assert "buildset_registry_lock: there is no file /none/there.json on the con" in run.message
    found = desk.folder / "files/a,b.lock.json"  # where Ansible looks for files
    found.parent.mkdir()
    found.write_text('{"version": 1, "images": {}}')
    run = desk.role(ROLE, "--check", buildset_registry_lock=found.name)
    assert run.code == 0, run.output
