# SPDX-License-Identifier: Apache-2.0
"""What the ready job that builds images has a builder do: the words, and the folder."""

from __future__ import annotations

from typing import Any

import pytest

from tests.roles.harness import REPOSITORY, Desk

JOBS = REPOSITORY / "playbooks" / "zuul"
APP = "quay.io/org/app"
#: Stands for podman: notes where it was called, and how.
BUILDER = """#!/bin/sh
echo "$PWD: $*" >>"{folder}/calls"
"""


def calls(desk: Desk, image: dict[str, Any]) -> list[str]:
    """Build an image of a project by the job's tasks; return what the builder was called by."""
    builder = desk.folder / "builder"
    builder.write_text(BUILDER.format(folder=desk.folder))
    builder.chmod(0o755)
    (desk.folder / "project" / "app").mkdir(parents=True)
    variables = {
        "build_command": str(builder),
        "build_folder": str(desk.folder / "project"),
        "build_image": {"repository": APP, **image},
        "build_registry": {"push_host": "127.0.0.1", "push_port": 5001},
    }
    tasks = [{"ansible.builtin.include_tasks": str(JOBS / "tasks" / "build.yml")}]
    play = {"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}
    run = desk.playbook(desk.write("building.yml", [play]))
    assert run.code == 0, run.output
    return (desk.folder / "calls").read_text().replace(f"{desk.folder}/", "").splitlines()


@pytest.mark.parametrize(
    ("image", "where", "words"),
    [
        ({}, "project", "."),
        ({"context": "app"}, "project/app", "."),
        ({"context": "app", "path": "../lib"}, "project/app", "../lib"),
        (
            {"context": "app", "container_filename": "Other", "path": "source"},
            "project/app",
            "--file Other source",
        ),
    ],
)
def test_images_are_built_where_zuul_jobs_builds_them(
    desk: Desk, image: dict[str, Any], where: str, words: str
) -> None:
    """In the context, to which the file and the path are relative."""
    (built, tagged, pushed) = calls(desk, image)
    *options, last = words.rsplit(" ", 1)
    given = " ".join(["build", *options, "--tag", f"{APP}:latest", last])
    assert built == f"{where}: {given}"
    assert tagged.endswith(f": tag {APP}:latest 127.0.0.1:5001/{APP}:latest")
    assert pushed.endswith(f": push 127.0.0.1:5001/{APP}:latest")


@pytest.mark.parametrize(
    ("key", "value"), [("siblings", ["git.example.org/org/lib"]), ("arch", ["linux/arm64"])]
)
def test_what_would_be_left_out_is_refused(desk: Desk, key: str, value: list[str]) -> None:
    """Before a registry is started."""
    images = [{"repository": APP, key: []}, {"repository": APP, key: value}]
    run = desk.playbook(JOBS / "build.yml", "--check", container_images=images)
    assert run.code != 0
    assert "siblings and arch in container_images are not taken" in run.message
    assert not (desk.folder / "root").exists()
