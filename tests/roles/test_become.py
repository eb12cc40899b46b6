# SPDX-License-Identifier: Apache-2.0
"""The role as jobs for zuul-jobs include it: without become, by a user with sudo.

Nothing is written but in the home of such a user.

A stand-in for sudo is made of setpriv for one user and one test, since the real one reads the
machine's own configuration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.roles import harness
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.harness import Desk
from tests.use.places import FACTS, LOGIN

ROLE = "use_buildset_registry"
SYSTEMS = "/etc/containers/registries.conf.d/999-buildset-registry.conf"
USERS = ".config/containers/registries.conf.d/999-buildset-registry.conf"
GIVEN = {"buildset_registry": FACTS, "buildset_registry_clients": ["containers"]}
SUDO = """#!/bin/bash
while [[ $1 = -* ]]; do [[ $1 = -u ]] && shift; shift; done
exec env HOME=/root USER=root "${0%/*}/setpriv" --reuid 0 --regid 0 --clear-groups "$@"
"""


@pytest.fixture
def user() -> Iterator[str]:
    """A user who may do nothing special yet."""
    if os.getuid() != 0:
        pytest.fail("it takes root to let a user become root", False)
    with harness.ordinary_user() as name:
        yield name


def let_sudo(desk: Desk) -> None:
    """Put a sudo before the user's other programs; nobody else may use it."""
    folder = desk.folder / "sudo"
    folder.mkdir(mode=0o750)
    program = Path(shutil.copy(str(shutil.which("setpriv", path=harness.SYSTEM_PATH)), folder))
    (folder / "sudo").write_text(SUDO)
    for path, mode in ((folder, 0o750), (program, 0o4750), (folder / "sudo", 0o750)):
        shutil.chown(path, "root", desk.user)
        path.chmod(mode)
    desk.settings["PATH"] = f"{folder}:{harness.clean_path()}"


@pytest.mark.parametrize("version", ["2.16", "2.18", "newest"])
def test_the_whole_node_is_configured_by_sudo(make_desk: MakeDesk, user: str, version: str) -> None:
    """And the user who did not become root is logged in, too."""
    desk = make_desk(version, user)
    let_sudo(desk)
    run = desk.role(ROLE, "--check", "--diff", **GIVEN)
    assert run.code == 0, run.output
    assert f"+++ {SYSTEMS}" in run.output
    assert f"+++ {desk.home}/.docker/config.json" in run.output
    assert "/root/.docker/config.json" in run.output
    assert USERS not in run.output
    assert "fatal" not in run.output


@pytest.mark.parametrize("version", ["2.16", "newest"])
def test_without_sudo_the_user_s_own_tools_are_configured(
    make_desk: MakeDesk, user: str, version: str
) -> None:
    """Nothing of that looks like an error."""
    desk = make_desk(version, user)
    run = desk.role(ROLE, "--check", "--diff", **GIVEN)
    assert run.code == 0, run.output
    assert f"+++ {desk.home}/{USERS}" in run.output
    assert f"+++ {SYSTEMS}" not in run.output
    assert "fatal" not in run.output


def test_who_wants_no_root_gets_none(make_desk: MakeDesk, user: str) -> None:
    """Though sudo would have made one."""
    desk = make_desk(user=user)
    let_sudo(desk)
    run = desk.role(ROLE, "--check", "--diff", **GIVEN, buildset_registry_become=False)
    assert run.code == 0, run.output
    assert f"+++ {desk.home}/{USERS}" in run.output


@pytest.mark.parametrize("version", ["2.16", "newest"])
def test_who_wants_root_and_may_not_is_told(make_desk: MakeDesk, user: str, version: str) -> None:
    """In a line that says what to do."""
    run = make_desk(version, user).role(ROLE, "--check", **GIVEN, buildset_registry_become=True)
    assert run.code != 0
    assert f"buildset_registry_become is true, and {user} cannot become root" in run.message


def test_a_word_that_is_none_is_refused(make_desk: MakeDesk) -> None:
    """The specification names those that there are."""
    run = make_desk().role(ROLE, "--check", **GIVEN, buildset_registry_become="perhaps")
    assert run.code != 0
    assert "auto" in run.output


@pytest.mark.parametrize("version", PLUGINS)
def test_a_job_of_zuul_without_become(
    make_desk: MakeDesk, clone: Path, user: str, version: str
) -> None:
    """By Zuul's own command module, which streams; no password is in its logs."""
    desk = make_desk(version, user)
    roles, desk.user = desk.roles, None
    job = Job(desk, clone, version)
    for path in [job.root, *job.root.rglob("*")]:
        shutil.chown(path, user)
    desk.roles, desk.user = roles, user
    let_sudo(desk)
    tell = {"ansible.builtin.debug": {"msg": "{{ __buildset_registry_use.paths }}"}}
    play = {"hosts": "all", "check_mode": True, "roles": [ROLE], "post_tasks": [tell]}
    run = job.play(desk.write("job.yml", [play]), **GIVEN)
    assert run.code == 0, run.output
    assert f'"{SYSTEMS}"' in run.output
    assert FACTS["password"] not in run.output
    assert LOGIN not in run.output


@pytest.mark.parametrize("version", ["2.16", "newest"])
def test_a_node_is_restored_by_a_user_who_cannot_become_root(
    make_desk: MakeDesk, user: str, version: str
) -> None:
    """As the job that builds images uses it: what the user has is undone, without an error."""
    desk = make_desk(version, user)
    plays = yaml.safe_load((harness.REPOSITORY / "playbooks/zuul/restore.yml").read_text())
    assert desk.role(ROLE, **GIVEN, buildset_registry_canary=False).code == 0
    assert (desk.home / USERS).exists()
    run = desk.playbook(desk.write("restore.yml", plays))
    assert run.code == 0, run.output
    assert not (desk.home / USERS).exists()


def test_a_node_is_restored_by_root_where_the_job_wants_none(
    make_desk: MakeDesk, user: str
) -> None:
    """The job that uses a registry has configured the node as root whatever its variable says."""
    desk = make_desk(user=user)
    let_sudo(desk)
    plays = yaml.safe_load((harness.REPOSITORY / "playbooks/zuul/restore.yml").read_text())
    plays[0]["vars"] = {"buildset_registry_become": False}
    run = desk.playbook(desk.write("restore.yml", plays), "--check")
    assert run.code == 0, run.output
    as_root = run.output.partition("Do it as root]")[2].splitlines()
    assert as_root[1].startswith("included: "), run.output
