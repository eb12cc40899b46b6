# SPDX-License-Identifier: Apache-2.0
"""Images from change to change: pushed by one build, pulled by another's, promoted when merged.

Each role runs under Zuul's own plugins, as it does on the executor: on localhost, from a sparse
checkout, without container tools, by names that do not resolve.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.content import DOCKER_IMAGE, INDEX, Pusher, digest_of
from tests.interop.registries import PASSWORD, ours
from tests.roles import harness
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.harness import Run
from tests.roles.intermediate import KINDS, Served, intermediate, serving

PUSH, PULL, PROMOTE = (
    {"ansible.builtin.include_role": {"name": name}}
    for name in (
        "push_to_intermediate_registry",
        "pull_from_intermediate_registry",
        "promote_container_image",
    )
)
BUILD, LATER = "a" * 32, "b" * 32
APP, DATABASE = "quay.io/org/app", "docker.io/org/database"
IMAGES = [{"repository": APP, "tags": ["v1"]}, {"repository": DATABASE}]
READ = """
import json, sys
from zuul.lib.result_data import get_artifacts_from_result_data
json.dump(get_artifacts_from_result_data(json.load(sys.stdin)), sys.stdout)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """Run two buildsets' registries and an intermediate one of each kind."""
    programs = [ours(), ours(), *map(intermediate, KINDS), intermediate("distribution")]
    with serving(tmp_path_factory.mktemp("intermediate"), *programs) as served:
        yield dict(zip(("first", "second", *KINDS, "public"), served, strict=True))


def make_images(registry: Served) -> dict[str, str]:
    """Push an index of two platforms with a signature, and a schema 2 image; return digests."""
    pusher = Pusher(registry.client)
    children = [pusher.image(APP, seed) for seed in (b"amd64", b"arm64")]
    index = pusher.index(APP, INDEX, children, "v1")
    pusher.artifact(APP, index)
    database = pusher.image("org/database", b"database", "latest", media_type=DOCKER_IMAGE)
    return {APP: index, "org/database": database}


def job(make_desk: MakeDesk, clone: Path, version: str = "2.18") -> Job:
    """Return a job whose playbooks run on the executor."""
    return Job(make_desk(version), clone, version, host="localhost")


def push(job: Job, own: Served, there: dict[str, Any], build: str = BUILD, **more: Any) -> Run:
    """Run the role as post-run does after success."""
    variables = {"container_images": IMAGES, "zuul_success": True, "zuul": {"build": build}}
    secrets = {"buildset_registry": own.facts, "intermediate_registry": there}
    return job.run(PUSH, **{**secrets, **variables, **more})


def pull(job: Job, own: Served, there: dict[str, Any], artifacts: list[dict[str, Any]]) -> Run:
    """Run the role with what Zuul tells a job of the builds ahead."""
    secrets = {"buildset_registry": own.facts, "intermediate_registry": there}
    return job.run(PULL, **secrets, zuul={"artifacts": artifacts})


def artifacts(job: Job, **change: Any) -> list[dict[str, Any]]:
    """Return what a build has returned as Zuul reads it and hands it to a job of another change."""
    python = harness.environment_with("zuul==14.3.0") / "bin" / "python"
    data = json.dumps(job.returned["data"])
    words = [str(python), "-c", READ]
    done = subprocess.run(words, input=data, capture_output=True, text=True, check=True)
    by = {"project": "org/app", "change": "41", "patchset": "2", "job": "build-images", **change}
    return [{**one, **by} for one in json.loads(done.stdout)]


@pytest.mark.parametrize("version", PLUGINS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_change_has_the_images_of_the_change_before_it(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], kind: str, version: str
) -> None:
    """Pushed by one, pulled by the other: the digests are equal, and nothing is copied twice."""
    made = make_images(world["first"])
    there = world[kind].secret
    build = digest_of(f"{kind} {version}".encode())[-32:]
    first = job(make_desk, clone, version)
    pushed = push(first, world["first"], there, build)
    assert pushed.code == 0, pushed.output
    found = {one["name"]: one["metadata"] for one in artifacts(first)}
    assert found[f"{APP}:v1"]["digest"] == made[APP]
    assert found[f"{APP}:v1"]["media_type"] == INDEX
    assert found[f"{APP}:v1"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert found[f"{DATABASE}:latest"]["digest"] == made["org/database"]
    assert world[kind].digest(DATABASE, f"{build}_latest") == made["org/database"]
    second = job(make_desk, clone, version)
    pulled = pull(second, world["second"], there, artifacts(first))
    assert pulled.code == 0, pulled.output
    assert {
        name: world["second"].digest(name, tag)
        for name, tag in ((APP, "v1"), ("org/database", "latest"))
    } == made
    again = pull(second, world["second"], there, artifacts(first))
    assert again.recap["changed"] == 0, again.output
    assert PASSWORD not in first.output + second.output
    assert [path for path in first.desk.home.rglob("*") if path.is_file()] == []
