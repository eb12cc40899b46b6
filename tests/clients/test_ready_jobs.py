# SPDX-License-Identifier: Apache-2.0
"""The playbook of the ready job that builds images, with a real builder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.commands import run
from tests.clients.images import Source
from tests.clients.registry import Registry
from tests.clients.tools import logged_out

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOKS = REPOSITORY / "playbooks" / "zuul"


@pytest.fixture(scope="module")
def ready(folder: Path) -> Iterator[Registry]:
    """A registry that no client knows yet."""
    ports = ["--port", "5040", "--push-port", "5041"]
    registry = Registry(folder / "ready", ["--host", "192.0.2.1", *ports])
    registry.up()
    yield registry
    registry.down()


def play(name: str, folder: Path, registry: Registry, **more: Any) -> str:
    """Run a playbook of the ready jobs on this node, as root."""
    program = Path(os.environ["EXAMPLES_ANSIBLE"], "bin", "ansible-playbook")
    variables = folder / "variables.json"
    given = {
        "buildset_registry": registry.facts,
        "buildset_registry_clients": ["containers"],
        "buildset_registry_canary": False,
        "ansible_user_dir": str(folder),
        "ansible_python_interpreter": str(program.parent / "python"),
        "zuul": {"project": {"src_dir": "src"}},
    }
    variables.write_text(json.dumps({**given, **more}))
    paths = {"ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles")}
    words = ["-i", "node,", "-c", "local", "-e", f"@{variables}", str(PLAYBOOKS / name)]
    said = run(program, "-vvv", *words, environment=paths)
    assert registry.facts["password"] not in said
    return said


def test_images_are_built_and_pushed_by_their_names(
    tmp_path: Path, source: Source, ready: Registry
) -> None:
    """Each tag, with its labels; Docker Hub's images without their host; another file."""
    context = tmp_path / "src" / "app"
    context.mkdir(parents=True)
    (context / "content").write_text("built")
    for name in ("Containerfile", "Other"):
        (context / name).write_text(
            f'FROM scratch\nARG word\nLABEL file={name} word="$word"\nCOPY content /\n'
        )
    images = [
        {"repository": "quay.io/org/ready", "context": "app", "tags": ["v1", "v2"]},
        {
            "repository": "docker.io/org/ready",
            "context": "app",
            "container_filename": "Other",
            "build_args": ["word=given"],
            "labels": ["more=yes"],
        },
    ]
    with logged_out():
        try:
            play("build.yml", tmp_path, ready, container_images=images)
        finally:
            play("restore.yml", tmp_path, ready)
    assert {"quay.io/org/ready", "org/ready"} <= set(ready.repositories())
    with logged_out():
        credentials = f"{ready.facts['username']}:{ready.facts['password']}"
        words = ["skopeo", "inspect", "--tls-verify=false", f"--creds={credentials}"]
        labels = {
            name: json.loads(run(*words, f"docker://{ready.push}/{name}"))["Labels"]
            for name in ("quay.io/org/ready:v1", "quay.io/org/ready:v2", "org/ready:latest")
        }
    assert labels["quay.io/org/ready:v1"]["file"] == labels["quay.io/org/ready:v2"]["file"]
    assert labels["org/ready:latest"]["file"] == "Other"
    assert labels["org/ready:latest"]["word"] == "given"
    assert labels["org/ready:latest"]["more"] == "yes"
