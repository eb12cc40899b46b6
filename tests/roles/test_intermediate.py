# SPDX-License-Identifier: Apache-2.0
"""Images from change to change: pushed by one build, pulled by another's, promoted when merged.

Each role runs under Zuul's own plugins, as it does on the executor: on localhost, from a sparse
checkout, without container tools, by names that do not resolve. What is copied and said in each
case is in ``test_carrying``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.interop.content import DOCKER_IMAGE, INDEX, Pusher
from tests.interop.registries import PASSWORD, USER
from tests.roles.conftest import MakeDesk
from tests.roles.executor import PLUGINS, Job
from tests.roles.intermediate import CHANGE, KINDS, NAME, Served, answering, handed_on

BUILD = "a" * 32
APP, DATABASE = "quay.io/org/app", "docker.io/org/database"


def make_images(registry: Served, *tags: str) -> dict[str, str]:
    """Push an index of two platforms with a signature, and a schema 2 image; return digests."""
    pusher = Pusher(registry.client)
    children = [pusher.image(APP, seed) for seed in (b"amd64", b"arm64")]
    index = pusher.index(APP, INDEX, children, *tags)
    pusher.artifact(APP, index)
    database = pusher.image("org/database", b"database", *tags, media_type=DOCKER_IMAGE)
    return {APP: index, "org/database": database}


def images(*tags: str) -> list[dict[str, Any]]:
    """Return both images as a job names them."""
    return [{"repository": name, "tags": list(tags)} for name in (APP, DATABASE)]


def role(name: str, **variables: Any) -> dict[str, Any]:
    """Include a role with variables of its own."""
    return {"ansible.builtin.include_role": {"name": name}, "vars": variables}


def push(**variables: Any) -> dict[str, Any]:
    """Include the role that pushes."""
    return role("push_to_intermediate_registry", **variables)


def pull(**variables: Any) -> dict[str, Any]:
    """Include the role that pulls."""
    return role("pull_from_intermediate_registry", **variables)


def on_executor(make_desk: MakeDesk, clone: Path, version: str = "2.18") -> Job:
    """Return a job whose playbooks run on the executor."""
    return Job(make_desk(version), clone, version, host="localhost")


@pytest.mark.parametrize("version", PLUGINS)
def test_a_change_has_the_images_of_the_change_before_it(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], version: str
) -> None:
    """Pushed by one, pulled by the other, by each kind of registry: the digests are equal."""
    tags = {kind: f"{kind}-{version}" for kind in KINDS}
    made = make_images(world["first"], *tags.values())
    first, secrets = (
        on_executor(make_desk, clone, version),
        {kind: world[kind].secret for kind in KINDS},
    )
    pushes = [
        push(intermediate_registry=secrets[kind], container_images=images(tags[kind]))
        for kind in KINDS
    ]
    after = {"zuul_success": True, "zuul": {"build": BUILD}}
    pushed = first.run(*pushes, buildset_registry=world["first"].facts, **after)
    assert pushed.code == 0, pushed.output
    artifacts = handed_on(first)
    assert len({one["name"] for one in artifacts}) == len(artifacts) == 2 * len(KINDS)
    for one in artifacts:
        told = one["metadata"]
        assert told["digest"] == made[told["repository"].removeprefix("docker.io/")]
        if told["repository"] == APP:
            assert told["media_type"] == INDEX
            assert told["platforms"] == ["linux/amd64", "linux/arm64"]
    second = on_executor(make_desk, clone, version)
    pulls = [
        pull(
            intermediate_registry=secrets[kind],
            zuul_artifacts=[one for one in artifacts if one["metadata"]["tag"] == tags[kind]],
        )
        for kind in KINDS
    ]
    pulled = second.run(*pulls, buildset_registry=world["second"].facts)
    assert pulled.code == 0, pulled.output
    for kind in KINDS:
        assert {name: world["second"].digest(name, tags[kind]) for name in made} == made
        assert world[kind].digest(DATABASE, f"{BUILD}_{tags[kind]}") == made["org/database"]
    assert PASSWORD not in first.output + second.output
    for job in (first, second):
        assert [path for path in job.desk.home.rglob("*") if path.is_file()] == []
        assert list(job.temporary.iterdir()) == []


def test_a_build_pushes_when_it_is_to(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served]
) -> None:
    """Not before the job's end unless it says so, not after a failure, and nothing twice."""
    make_images(world["first"], "when")
    common = {
        "buildset_registry": world["first"].facts,
        "intermediate_registry": world["ours"].secret,
        "container_images": images("when"),
        "zuul": {"build": "c" * 32},
    }
    job = on_executor(make_desk, clone)
    waiting = job.run(
        push(), push(zuul_success=False, buildset_registry_push_when="early"), **common
    )
    assert waiting.code == 0, waiting.output
    assert "images are pushed in post-run" in waiting.output
    assert "the build has not succeeded" in waiting.output
    assert not job.results.read_text()
    early, late = push(buildset_registry_push_when="early"), push(zuul_success=True)
    done = job.run(early, late, **common)
    assert done.code == 0, done.output
    assert sorted(one["name"] for one in handed_on(job)) == [f"{DATABASE}:when", f"{APP}:when"]
    assert done.output.count("already") >= 2


@pytest.mark.parametrize("version", PLUGINS)
def test_a_push_that_fails_fails_the_build_or_warns(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], version: str
) -> None:
    """As the operator has it; what was pushed is returned, and no secret is told in any way."""
    make_images(world["first"], "half")
    secret = {**world["ours"].secret, "password": "another-secret-of-the-site"}
    common = {
        "buildset_registry": world["first"].facts,
        "intermediate_registry": world["ours"].secret,
        "docker_images": [*images("half"), {"repository": "quay.io/org/absent"}],
        "container_images": [{"repository": "quay.io/org/not/looked/at"}],
        "zuul": {"build": "d" * 32},
        "zuul_success": True,
    }
    job = on_executor(make_desk, clone, version)
    warned = job.run(push(buildset_registry_intermediate_failure="warn"), **common)
    assert warned.code == 0, warned.output
    assert "WARNING: quay.io/org/absent:latest: " in warned.output
    (warning,) = job.returned["data"]["zuul"]["warnings"]
    assert warning.startswith("quay.io/org/absent:latest: ")
    assert len(handed_on(job)) == 2
    failed = job.run(push(intermediate_registry=secret), **common)
    assert failed.code != 0
    assert "not/looked/at" not in failed.output
    assert PASSWORD not in job.output
    assert secret["password"] not in job.output


def test_a_pull_that_fails_fails_the_job(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served]
) -> None:
    """The public image would be tested otherwise; the line says whose image it is."""
    url = f"docker://{NAME}:{world['ours'].port}/{APP}:{BUILD}_gone"
    metadata = {"type": "container_image", "repository": APP, "tag": "gone"}
    artifact = {"name": f"{APP}:gone", "url": url, "metadata": metadata, **CHANGE}
    job = on_executor(make_desk, clone)
    secrets = {
        "buildset_registry": world["second"].facts,
        "intermediate_registry": world["ours"].secret,
    }
    run = job.run(pull(), zuul={"artifacts": [artifact]}, **secrets)
    assert run.code != 0
    assert f"{APP}:gone, built by build {BUILD} of job build-images, change 41,2" in run.output
    assert PASSWORD not in job.output


def test_what_has_merged_is_published(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served]
) -> None:
    """By both methods of zuul-jobs, with its variables."""
    there, public = world["ours"], world["public"]
    digest = Pusher(there.client).image(APP, b"merged", f"{BUILD}_merged")
    uploaded = Pusher(public.client).image("org/uploaded", b"uploaded", "change_42_v2")
    host = f"{NAME}:{public.port}"
    metadata = {"type": "container_image", "repository": f"{host}/org/app", "tag": "merged"}
    artifact = {
        "name": "app",
        "url": f"docker://{NAME}:{there.port}/{APP}:{BUILD}_merged",
        "metadata": {**metadata, "digest": digest},
    }
    login = {"username": USER, "password": PASSWORD, "cert": public.cert, "address": "127.0.0.1"}
    # zuul-jobs deletes tags by it; here it is another key of the secret.
    login["api_token"] = "token-not-to-be-seen"
    job = on_executor(make_desk, clone)
    with answering() as api:
        build = {"uuid": BUILD, "job_name": "build-images", "result": "SUCCESS"}
        api.answers["/builds"] = [{**build, "artifacts": [artifact]}]
        run = job.run(
            role(
                "promote_container_image",
                promote_container_image_method="intermediate-registry",
                promote_container_image_api=api.url,
                promote_container_image_job="build-images",
                container_images=[
                    {"repository": f"{host}/org/app", "tags": ["merged"], "registry": host}
                ],
            ),
            role(
                "promote_container_image",
                container_images=[
                    {"repository": f"{host}/org/uploaded", "tags": ["v2"], "registry": host}
                ],
            ),
            container_registry_credentials={host: login},
            intermediate_registry=there.secret,
            zuul={"change": "42", "patchset": "3", "pipeline": "promote"},
        )
    assert run.code == 0, run.output
    assert public.digest("org/app", "merged") == digest
    assert public.digest("org/uploaded", "v2") == uploaded
    assert "org/uploaded:change_42_v2 is deleted" in run.output
    assert login["api_token"] not in job.output
    assert PASSWORD not in job.output


def test_the_ready_jobs_carry_images(
    make_desk: MakeDesk, checkout: Path, world: dict[str, Served]
) -> None:
    """With the secret, the registry has images of other changes first, and gives its own away."""
    pulled = Pusher(world["ours"].client).image("quay.io/org/base", b"base", f"{BUILD}_latest")
    metadata = {"type": "container_image", "repository": "quay.io/org/base", "tag": "latest"}
    url = f"docker://{NAME}:{world['ours'].port}/quay.io/org/base:{BUILD}_latest"
    artifact = {"name": "base", "url": url, "metadata": {**metadata, "digest": pulled}, **CHANGE}
    job = Job(make_desk("2.18"), checkout, "2.18")
    variables = {
        "intermediate_registry": world["ours"].secret,
        "container_images": [{"repository": "quay.io/org/base"}],
        "buildset_registry_push_when": "early",
        "zuul": {"build": "e" * 32, "artifacts": [artifact]},
    }
    playbooks = checkout / "playbooks" / "zuul"
    started = job.play(playbooks / "start.yml", **variables)
    assert started.code == 0, started.output
    assert f"quay.io/org/base:latest is {pulled}" in started.output
    for more in ({}, {"zuul_success": True}):
        pushed = job.play(playbooks / "push.yml", **variables, **more)
        assert pushed.code == 0, pushed.output
    (returned,) = handed_on(job)
    assert returned["metadata"]["digest"] == pulled
    assert world["ours"].digest("quay.io/org/base", "e" * 32 + "_latest") == pulled
    assert job.play(playbooks / "stop.yml", **variables).code == 0
    assert PASSWORD not in job.output
