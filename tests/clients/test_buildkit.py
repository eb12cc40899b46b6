# SPDX-License-Identifier: Apache-2.0
"""BuildKit: images built from images of a mirror, pushed, and its cache kept in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import daemon
from tests.clients.commands import execute, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind, make_source
from tests.clients.upstream import Upstream

ADDRESS = f"unix://{daemon.STATE}/buildkit.sock"
CONFIG = """
[registry."quay.io"]
mirrors = ["{pull}/quay.io"]
[registry."{pull}"]
ca = ["/etc/docker/certs.d/{pull}/ca.crt"]
[registry."{push}"]
ca = ["/etc/docker/certs.d/{push}/ca.crt"]
"""


@dataclass(frozen=True)
class Builder:
    """A running buildkitd, and a folder with what it builds."""

    context: Path
    log: Path

    def build(self, *options: str) -> str:
        """Build what is in the folder, and return all that was said."""
        context = [f"--local=context={self.context}", f"--local=dockerfile={self.context}"]
        command = ["buildctl", "--addr", ADDRESS, "build", "--frontend=dockerfile.v0", *context]
        done = execute(*command, "--progress=plain", *options)
        assert done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        return done.stdout + done.stderr

    def forget(self) -> None:
        """Remove everything that was built or pulled."""
        run("buildctl", "--addr", ADDRESS, "prune", "--all")


@pytest.fixture
def builder(trial: Trial, tmp_path: Path) -> Iterator[Builder]:
    """buildkitd, with the registry as the mirror of quay.io."""
    config, log = tmp_path / "buildkitd.toml", tmp_path / "buildkitd.log"
    config.write_text(CONFIG.format(pull=trial.registry.pull, push=trial.registry.push))
    options: list[str | Path] = [
        *("--addr", ADDRESS, "--root", daemon.STATE / "buildkit", "--config", config),
        *("--containerd-worker=false", "--oci-worker-snapshotter=native"),
    ]
    trial.ledger.introduce("buildkit", daemon.built("buildkitd"))
    with daemon.process(log, "buildkitd", *options) as started:
        ready = ["buildctl", "--addr", ADDRESS, "debug", "workers"]
        daemon.wait_for(started, log, *ready)
        yield Builder(tmp_path, log)


def test_build_from_a_mirror(trial: Trial, builder: Builder) -> None:
    """The base image is the pushed one, by its public name; the result and the cache are pushed."""
    base = trial.push("skopeo", Kind.OCI, "quay.io/org/base:v1")
    (builder.context / "Dockerfile").write_text("FROM quay.io/org/base:v1\nCOPY Dockerfile /made\n")
    image, cache = f"{trial.registry.push}/org/built:v1", f"{trial.registry.push}/org/cache:v1"
    export = f"--export-cache=type=registry,ref={cache},mode=max"
    said = builder.build(f"--output=type=image,name={image},push=true", export)
    assert f"quay.io/org/base:v1@{base}" in said
    built = trial.pull("skopeo", "org/built:v1")
    assert trial.pull("docker", "org/built:v1").config == built.config
    index = json.loads(run("skopeo", "inspect", "--raw", f"docker://{cache}"))
    assert "buildkit" in json.dumps(index), index
    builder.forget()
    said = builder.build(f"--import-cache=type=registry,ref={cache}")
    assert "CACHED" in said, said
    trial.ledger.note("buildkit", "built from a pushed image by its public name, and pushed it")
    trial.ledger.note("buildkit", "pushed its cache, and built from that")


def test_build_by_a_source_policy_when_the_tag_has_moved(
    trial: Trial, builder: Builder, tmp_path: Path, public: Upstream
) -> None:
    """The lock as a source policy pins a base image that is named with its tag, or without one."""
    assert public.process
    skopeo = trial.clients["skopeo"]
    image, policy = "quay.io/org/policed", builder.context / "policy.json"
    old = skopeo.push(make_source(tmp_path / "old", "policed, old"), Kind.INDEX, f"{image}:latest")
    assert trial.pull("skopeo", f"{image}:latest").digest == old
    trial.registry.run("lock", "--format", "source-policy", "--output", policy)
    new = trial.push("skopeo", Kind.OCI, f"{image}:latest")
    assert new != old
    for name in (image, f"{image}:latest"):
        (builder.context / "Dockerfile").write_text(f"FROM {name}\nCOPY Dockerfile /made\n")
        assert f"{image}:latest@{old}" in builder.build(f"--source-policy-file={policy}")
        assert f"{image}:latest@{new}" in builder.build()
        builder.forget()
    trial.ledger.note("buildkit", "built by a source policy, with the tag moved")
