# SPDX-License-Identifier: Apache-2.0
"""The facts as other CI systems take them, and ``use``, which configures this machine's tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.instance.conftest import Desk

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples/ci"
#: How the runner of GitHub Actions reads a value of several lines.
VALUES = re.compile(r"^(\w+)<<(.+)\n(.*(?:\n.*)*?)\n\2$", re.MULTILINE)


@pytest.fixture
def facts(desk: Desk) -> dict[str, Any]:
    """The facts of a registry that runs."""
    found: dict[str, Any] = desk.up()["facts"]
    return found


def test_each_ci_system_gets_the_facts_in_its_form(
    desk: Desk, facts: dict[str, Any], tmp_path: Path
) -> None:
    """GitHub's runner is told to mask the password before it is an output; elsewhere what is
    printed has the name of its file, and no secret."""
    outputs = tmp_path / "outputs"
    outputs.write_text("earlier=step\n")
    up = ("up", "--supervisor", "process", "--format")
    done = desk.run(*up, "github", environment={"GITHUB_OUTPUT": str(outputs)})
    assert done.stdout == f"::add-mask::{facts['password']}\n", done.stderr
    assert outputs.read_text().startswith("earlier=step\n")
    values = {name: value for name, _end, value in VALUES.findall(outputs.read_text())}
    assert values.pop("cert") == facts["cert"]
    assert Path(values.pop("cert_file")).read_text() == facts["cert"]
    assert Path(values.pop("password_file")).read_text() == facts["password"]
    assert values == {key: str(value) for key, value in facts.items() if key != "cert"}
    dotenv = desk.run(*up, "gitlab").stdout
    assert f"BUILDSET_REGISTRY_PORT={facts['port']}\n" in dotenv
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in dotenv.splitlines())
    lines = desk.run(*up, "env").stdout
    assert facts["password"] not in dotenv + lines
    shell = f'{lines}\ncat "$BUILDSET_REGISTRY_PASSWORD_FILE"; echo " $BUILDSET_REGISTRY_HOST"'
    told = subprocess.run(["/bin/sh", "-euc", shell], capture_output=True, text=True, check=True)
    assert told.stdout == f"{facts['password']} 127.0.0.1\n"


def test_a_registry_without_a_certificate_of_its_own_names_none(desk: Desk, tmp_path: Path) -> None:
    """Behind a proxy that ends TLS: a file that is not there was named, and ``use`` had no word."""
    without = ("--settings-file", "-")
    assert desk.up(*without, stdin='{"tls": false}')["facts"]["cert"] is None
    up = ("up", "--supervisor", "process")
    for form in ((), ("--format", "env"), ("--format", "gitlab")):
        told = desk.run(*up, *form).stdout
        assert str(desk.root / "password") in told
        assert not any(word in told for word in ("cert.pem", "CERT", "--cert-dir", "None"))
    facts = tmp_path / "facts.json"
    facts.write_text(desk.run(*up, "--json").stdout)
    for words in ((), ("--facts", facts)):
        line = desk.refused("use", "--check", "--as-user", *words)
        assert "cert is empty, since the registry made no certificate itself; give the PEM" in line


def test_a_certificate_of_before_is_not_named_where_a_proxy_ends_tls(desk: Desk) -> None:
    """Its file stays; nothing shows it any more."""
    assert desk.up()["facts"]["cert"]
    assert desk.up("--settings-file", "-", stdin='{"tls": false}')["facts"]["cert"] is None


def test_the_certificate_of_the_user_s_own_is_the_one_that_is_named(desk: Desk) -> None:
    """Not the file in which ``up`` would have its own."""
    desk.up()
    for name in ("server.pem", "server.key"):
        (desk.root / name).rename(desk.root / f"own-{name}")
    (desk.root / "cert.pem").unlink()
    own = {"tls": {"certificate": "own-server.pem", "key": "own-server.key"}}
    facts = desk.up("--settings-file", "-", stdin=json.dumps(own))["facts"]
    assert facts["cert"] == (desk.root / "own-server.pem").read_text()
    told = desk.run("up", "--supervisor", "process").stdout
    assert f"cp {desk.root}/own-server.pem certs/ca.crt" in told
    assert "/cert.pem" not in told


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_made(
    desk: Desk, tmp_path: Path
) -> None:
    """Outside of GitHub Actions there is no place for them."""
    nowhere = {"GITHUB_OUTPUT": ""}
    assert "GITHUB_OUTPUT" in desk.refused("up", "--format", "github", environment=nowhere)
    assert not desk.root.exists()


def test_use_tells_what_it_would_change_by_the_code_of_the_role(
    desk: Desk, facts: dict[str, Any], tmp_path: Path
) -> None:
    """Of the registry in a folder, or of one elsewhere by its facts; without its password."""
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    words = ("use", "--check", "--client", "containers", "--as-user")
    done = desk.run(*words, environment=home)
    assert done.returncode == 0, done.stderr
    assert f'+location = "127.0.0.1:{facts["port"]}' in done.stdout
    assert "would change: " in done.stdout
    given = desk.run(*words, "--facts", "-", "--json", stdin=json.dumps(facts), environment=home)
    assert given.returncode == 0, given.stderr
    assert json.loads(given.stdout)["clients"] == ["containers"]
    assert facts["password"] not in done.stdout + done.stderr + given.stdout + given.stderr
    undone = desk.run("use", "--undo", "--check", environment=home)
    assert undone.stdout == "would change: nothing\n", undone


WRONG = {
    "no registry in": (),
    "'nobody' is no client; known: ": ("--client", "nobody"),
    "--restart-command 'containerd' has no name and value": ("--restart-command", "containerd"),
    "does not hold the facts of a registry": ("--facts", "-"),
    "cannot read": ("--facts", "/nowhere/at/all"),
}


@pytest.mark.parametrize("told", WRONG)
def test_use_refuses_in_one_line(desk: Desk, told: str) -> None:
    """With what to do, in the words of the command's options."""
    assert told in desk.refused("use", "--check", *WRONG[told], stdin="{}")


def test_messages_of_the_role_name_the_options_of_the_command(
    desk: Desk, facts: dict[str, Any]
) -> None:
    """The role's variables mean nothing to who types a command."""
    wrong = {**facts, "port": 70000}
    line = desk.refused("use", "--check", "--facts", "-", stdin=json.dumps(wrong))
    assert "buildset-registry up --json" in line
    assert "role" not in line
    names = ("--namespace", "quay.io= ")
    assert "--namespace: ['quay.io', ' '] is not" in desk.refused("use", "--check", *names)
    assert "no proxy for docker" in desk.refused("use", "--docker-every-registry", "--check")


def scripts(name: str) -> list[str]:
    """Return what a CI system would give to a shell, one script for each of its shells."""
    text = (EXAMPLES / name).read_text()
    if name == "Jenkinsfile":
        return list(map(textwrap.dedent, re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)))
    tree = yaml.safe_load(text)
    if name == "gitlab-ci.yml":
        return ["\n".join(job["script"]) for job in tree.values()]
    return [step["run"] for step in tree["jobs"]["images"]["steps"] if "run" in step]


def install_stand_ins(folder: Path, desk: Desk) -> None:
    """Make programs that go before the machine's own: ours works on the test's folder alone, what
    would change the machine says what it would change, and what builds does nothing."""
    folder.mkdir()
    fixed = f"--host 127.0.0.1 --port {desk.ports[0]} --push-port {desk.ports[1]}"
    ours = f'exec {sys.executable} -m buildset_registry "$@" --root {desk.root}'
    texts = {
        "buildset-registry": f'[ "$1" = up ] && set -- "$@" {fixed} --supervisor process\n{ours}',
        "sudo": '[ "$2" = use ] && set -- "$@" --check --no-canary --client containers\n'
        'case $1 in /*) exec "$@" ;; esac',
        **dict.fromkeys(("docker", "podman", "pipx"), "exit 0"),
    }
    for program, text in texts.items():
        (folder / program).write_text(f"#!/bin/sh\n{text}\n")
        (folder / program).chmod(0o755)


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml", "Jenkinsfile"])
def test_the_scripts_of_the_examples_run(desk: Desk, tmp_path: Path, name: str) -> None:
    """Shell by shell in one folder, with what an earlier one has told GitLab."""
    install_stand_ins(tmp_path / "bin", desk)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "PUSH": "registry:5001",
        "USER": "nobody",
    }
    said = ""
    for script in scripts(name):
        words = ["/bin/bash", "-exc", script]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout + done.stderr
        dotenv = tmp_path / "registry.env"
        lines = dotenv.read_text().split() if dotenv.exists() else []
        environment.update(dict(line.split("=", 1) for line in lines))
    assert json.loads((tmp_path / "images.lock.json").read_text()) == {"version": 1, "images": {}}
    assert "would change" in said
    push = "registry:5001" if name == "github-actions.yml" else f"127.0.0.1:{desk.ports[1]}"
    assert re.search(f"push (app )?{re.escape(push)}/quay.io/org/app:new", said)
