# SPDX-License-Identifier: Apache-2.0
"""The role that runs an intermediate registry: what it makes, a second run, and undo."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.harness import Desk, Run, get

ROLE = "run_intermediate_registry"
WRITER = {"name": "zuul", "password": "correct horse battery", "access": "write"}
READER = {"name": "nodes", "password": "not-to-be-seen-either"}


def variables(desk: Desk, name: str = "intermediate") -> dict[str, Any]:
    """Return what keeps the role inside the desk's folder."""
    return {
        "intermediate_registry_root": str(desk.folder / name),
        "intermediate_registry_host": "127.0.0.1",
        "intermediate_registry_port": free_port(),
        "intermediate_registry_users": [READER, WRITER],
        "intermediate_registry_supervisor": "process",
    }


def play(desk: Desk, *options: str, hosts: str = "localhost", **given: Any) -> Run:
    """Run the role, and read the fact that it set."""
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ intermediate_registry | default({}) | to_json }}",
            "dest": str(desk.folder / "facts.json"),
            "mode": "0600",
        },
        "no_log": True,
        "changed_when": False,
        "check_mode": False,
        "run_once": True,
    }
    tasks = {"hosts": hosts, "gather_facts": False, "roles": [ROLE], "post_tasks": [keep]}
    return desk.playbook(desk.write("play.yml", [tasks]), *options, **given)


@pytest.fixture
def desk(make_desk: MakeDesk, request: pytest.FixtureRequest) -> Desk:
    """A place whose registries end with the test."""
    made = make_desk(getattr(request, "param", "newest"))

    def end() -> None:
        command = Path(made.variables["buildset_registry_venv"], "bin", "buildset-registry")
        for config in made.folder.glob("*/config.yaml"):
            made.command(command, "down", "--purge", "--root", config.parent)

    request.addfinalizer(end)
    return made


@pytest.mark.parametrize("desk", ["2.16", "2.18", "newest"], indirect=True)
def test_from_nothing_to_a_dictionary_that_works(desk: Desk) -> None:
    """Who may write pushes, who may read does not; a second run changes nothing."""
    given = variables(desk)
    run = play(desk, "-vvv", **given)
    assert run.code == 0, run.output
    facts = run.facts
    assert facts
    assert set(facts) == {"host", "port", "username", "password", "cert"}
    assert (facts["username"], facts["port"]) == ("zuul", given["intermediate_registry_port"])
    uploads = "/v2/app/blobs/uploads/"
    assert get(facts) == 401
    assert get(facts, login=True) == 200
    assert _post(facts, uploads) == 202
    reader = {**facts, "username": READER["name"], "password": READER["password"]}
    assert get(reader, login=True) == 200
    assert _post(reader, uploads) == 403
    again = play(desk, **given)
    assert again.recap["changed"] == 0, again.output
    assert again.facts == facts
    for user in (READER, WRITER):
        assert user["password"] not in run.output + again.output
    assert "DEPRECATION" not in again.output


def test_stopped_and_absent(desk: Desk) -> None:
    """Stopping keeps what the registry holds, removing does not; both may be repeated."""
    given = variables(desk)
    root = Path(given["intermediate_registry_root"])
    assert play(desk, "--check", **given).recap["changed"] == 1
    assert not root.exists()
    facts = play(desk, **given).facts
    assert facts
    for state in ("stopped", "absent"):
        told = {**given, "intermediate_registry_state": state}
        assert play(desk, "--check", **told).recap["changed"] == 1
        run = play(desk, **told)
        assert run.recap["changed"] == 1, run.output
        with pytest.raises(ConnectionRefusedError):
            get(facts)
        assert play(desk, **told).recap["changed"] == 0
        assert root.exists() == (state == "stopped")


def test_settings_come_and_go(desk: Desk) -> None:
    """A variable that is emptied has an effect; a changed password needs no restart.

    Another setting of a section that users have a part in leaves what each of them may do.
    """
    given = variables(desk)
    metrics = {"port": free_port(), "address": "127.0.0.1"}
    more: dict[str, Any] = {
        "intermediate_registry_metrics": metrics,
        "intermediate_registry_settings": {
            "gc": {"grace": 3600},
            "auth": {"refresh_seconds": 60, "allowed_networks": ["127.0.0.0/8"]},
            "pull_through": {"tag_seconds": 600},
            "ledger": False,
        },
    }
    assert play(desk, **given, **more).code == 0
    config = Path(given["intermediate_registry_root"], "config.yaml")
    tree = yaml.safe_load(config.read_text())
    assert (tree["metrics"], tree["gc"], tree["upstreams"]) == (metrics, {"grace": 3600}, [])
    rules = [(rule["users"], rule["actions"]) for rule in tree["auth"]["rules"]]
    assert rules == [(["nodes"], ["pull"]), (["zuul"], ["pull", "push"])]
    assert tree["auth"]["refresh_seconds"] == 60
    # They count more than what the role's own variables say, and a section may be none.
    assert tree["auth"]["allowed_networks"] == ["127.0.0.0/8"]
    assert (tree["pull_through"], tree["ledger"]) == ({"tag_seconds": 600}, None)
    pid = _status(desk, config.parent)["pid"]
    other = {**WRITER, "password": "another one"}
    changed = play(desk, **{**given, **more, "intermediate_registry_users": [other]})
    assert changed.facts and get(changed.facts, login=True) == 200
    assert _status(desk, config.parent)["pid"] != pid  # the reader's rule is gone
    assert play(desk, **given).recap["changed"] == 1
    emptied = yaml.safe_load(config.read_text())
    assert emptied.keys().isdisjoint({"metrics", "gc", "pull_through"})
    assert emptied["auth"]["allowed_networks"] == []
    assert emptied["ledger"] == {"folder": "ledger"}
    assert play(desk, **given).recap["changed"] == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"intermediate_registry_users": []}, "give at least one user with access: write"),
        (
            {"intermediate_registry_users": [READER, {**READER, "name": "b", "access": "read"}]},
            "nobody may push: none of intermediate_registry_users writes; give one of them",
        ),
        (
            {
                "intermediate_registry_tls": {"certificate": "a", "key": "b"},
                "intermediate_registry_acme": {"names": ["a"]},
            },
            "both name a certificate",
        ),
        (
            {
                "intermediate_registry_users": [
                    {"name": "a:b", "password": "tell-nobody", "access": "write"}
                ]
            },
            "without colons",
        ),
    ],
)
def test_a_mistake_is_one_line(desk: Desk, more: dict[str, Any], words: str) -> None:
    """It tells no secret, and leaves nothing behind."""
    run = play(desk, **{**variables(desk), **more})
    assert run.code != 0
    assert words in run.message
    assert "tell-nobody" not in run.output
    assert not (desk.folder / "intermediate" / "config.yaml").exists()


def _post(facts: dict[str, Any], path: str) -> int:
    """Begin an upload with the login."""
    url, login = f"https://{facts['host']}:{facts['port']}", (facts["username"], facts["password"])
    trusted = ssl.create_default_context(cadata=facts["cert"])
    return httpx.post(url + path, auth=login, verify=trusted, trust_env=False).status_code


def _status(desk: Desk, root: Path) -> dict[str, Any]:
    command = Path(desk.variables["buildset_registry_venv"], "bin", "buildset-registry")
    done = desk.command(command, "status", "--json", "--root", root)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
