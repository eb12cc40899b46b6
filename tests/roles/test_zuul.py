# SPDX-License-Identifier: Apache-2.0
"""The roles as Zuul sees them: a sparse checkout, its executor's settings, its real plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.harness import get

RUN = {"ansible.builtin.include_role": {"name": "run_buildset_registry"}}
PAUSE = {"ansible.builtin.include_role": {"name": "pause_buildset_registry"}}
FAIL = {"ansible.builtin.fail": {"msg": "the job's own mistake"}}

pytestmark = pytest.mark.parametrize("version", PLUGINS)


def elsewhere(job: Job) -> dict[str, Any]:
    """Give variables with which another registry would be another one."""
    ports = {"buildset_registry_port": free_port(), "buildset_registry_push_port": free_port()}
    return {**ports, "buildset_registry_root": str(job.desk.folder / "elsewhere")}


def collected(job: Job) -> Path:
    """Tell where the registry's log is when Zuul's base job collects logs from a node."""
    return job.desk.home / "zuul-output" / "logs" / "buildset-registry" / "registry.log"


def test_checkout_holds_roles_only(clone: Path, version: str) -> None:
    """What the tests below run from has neither plugins nor tests."""
    folders = {path.name for path in clone.iterdir() if path.is_dir() and not path.is_symlink()}
    assert folders == {".git", "roles", "meta"}
    assert (clone / "galaxy.yml").exists()


def test_facts_work_and_are_returned(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """The registry answers by the facts; Zuul has them as secret data, beside plain data."""
    job = Job(make_desk(version), clone, version)
    run = job.run(RUN)
    assert run.code == 0, run.output
    assert run.facts
    assert get(run.facts) == 200
    assert get(run.facts, "push_") == 401
    assert get(run.facts, "push_", login=True) == 200
    assert job.returned["secret_data"]["buildset_registry"] == run.facts
    assert job.returned["data"]
    assert run.facts["password"] not in json.dumps(job.returned["data"])


def test_the_job_pauses_and_keeps_the_registry(
    make_desk: MakeDesk, clone: Path, version: str
) -> None:
    """Zuul is told to pause, and the registry stays in what is returned."""
    job = Job(make_desk(version), clone, version)
    facts = job.run(RUN).facts
    paused = job.run(PAUSE)
    assert paused.code == 0, paused.output
    assert job.returned["data"]["zuul"]["pause"] is True
    assert job.returned["secret_data"]["buildset_registry"] == facts


def test_later_playbook_uses_the_registry(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """The next process of the job finds the facts that the earlier one returned."""
    job = Job(make_desk(version), clone, version)
    first = job.run(RUN)
    later = job.run(RUN, **elsewhere(job))
    assert later.code == 0, later.output
    assert later.facts == first.facts
    assert not (job.desk.folder / "elsewhere").exists()


def test_dependent_job_uses_the_registry(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """A job that depends on the paused one has what it returned as its variables."""
    parent = Job(make_desk(version), clone, version)
    parent.run(RUN, PAUSE)
    child = Job(make_desk(version), clone, version)
    run = child.run(RUN, **parent.returned["secret_data"])
    assert run.code == 0, run.output
    assert run.facts
    assert run.facts == parent.returned["secret_data"]["buildset_registry"]
    assert get(run.facts) == 200
    assert not Path(child.desk.variables["buildset_registry_root"]).exists()
    assert run.facts["password"] not in child.output


def test_log_is_collected_from_a_node(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """The log is where the base job fetches logs from, also when the job fails afterwards."""
    job = Job(make_desk(version), clone, version)
    failed = job.run(RUN, FAIL)
    assert failed.code != 0
    assert "the job's own mistake" in failed.output
    assert collected(job).read_text()


def test_log_is_collected_from_the_executor(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """On the executor's localhost the log goes to the logs, and nothing to the home folder."""
    job = Job(make_desk(version), clone, version, host="localhost")
    run = job.run(RUN)
    assert run.code == 0, run.output
    assert (job.logs / "buildset-registry" / "registry.log").read_text()
    assert [path.name for path in job.desk.home.rglob("*") if path.is_file()] == []


def test_nothing_of_the_password_is_told(make_desk: MakeDesk, clone: Path, version: str) -> None:
    """Neither output nor JSON log has the password, at -vvv, in success and in failure."""
    job = Job(make_desk(version), clone, version)
    facts = job.run(RUN).facts
    assert facts
    job.run(RUN, PAUSE, FAIL)
    job.run({**RUN, "vars": {"buildset_registry_reuse": False}}, FAIL)
    job.run({**RUN, "vars": {"buildset_registry_state": "stopped"}})
    dead = job.run(RUN)
    assert dead.code != 0
    assert "TASK [run_buildset_registry" in job.output
    assert facts["password"] not in job.output
