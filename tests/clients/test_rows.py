# SPDX-License-Identifier: Apache-2.0
"""Pulls by every client, one right after the other: each is one row of the registry's ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.ledger.files import read_ledger

from tests.clients.commands import run, wait_until
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.test_buildkit import Builder
from tests.clients.test_buildkit import builder as builder
from tests.clients.test_containerd import TRUST, UNPACK, Containerd
from tests.clients.test_containerd import containerd as containerd

Run = Callable[[], object]


def rows(trial: Trial, image: str) -> list[dict[str, Any]]:
    """Return what the ledger has of an image."""
    found = read_ledger(trial.registry.root / "ledger").rows
    return [row for row in found if row["kind"] == "pull" and row["name"] == image]


def assert_one_row_each(trial: Trial, image: str, digest: str, pulls: Sequence[Run]) -> None:
    """Pull, see the row, pull again; the rows of before are what they were."""
    found: list[dict[str, Any]] = []

    def is_written() -> bool:
        before, found[:] = len(found), rows(trial, image)
        return len(found) > before

    for number, pull in enumerate(pulls, 1):
        pull()
        wait_until(is_written, f"row {number}")
    found = rows(trial, image)
    told = [(row["reference"], row["digest"], row["requests"]) for row in found]
    assert [one[:2] for one in told] == [("v1", digest)] * len(pulls), told


@pytest.mark.parametrize("name", ["skopeo", "podman", "buildah", "docker", "docker-current"])
def test_a_client_that_has_the_image_already_has_a_row_all_the_same(
    trial: Trial, name: str
) -> None:
    """Of a pull with nothing there, one of what is there, and one when it was forgotten."""
    image, client = f"org/rows-{name}", trial.clients[name]
    digest = trial.push("skopeo", Kind.INDEX, f"{image}:v1")
    reference = f"{trial.registry.pull}/{image}:v1"
    command = client.pulling(reference)
    if name == "buildah":  # it asks nobody for what it has
        command.insert(2, "--policy=always")

    def pull() -> None:
        run(*command)

    def pull_anew() -> None:
        run(*client.pulling(reference))

    assert_one_row_each(trial, image, digest, [pull, pull, pull_anew])
    trial.ledger.note(name, "had a row of the ledger for each pull")


def test_two_clients_of_one_daemon_have_a_row_each(trial: Trial, containerd: Containerd) -> None:
    """What the one has fetched, the other one asks for by its tag alone."""
    image = f"org/rows-{containerd.name}"
    digest = trial.push("skopeo", Kind.INDEX, f"{image}:v1")
    reference = f"{trial.registry.pull}/{image}:v1"
    other = ["other" if word == "tests" else word for word in containerd.ctr]

    def pull() -> None:
        run(*containerd.ctr, "pull", *TRUST, *UNPACK, reference)

    def pull_by_another() -> None:
        run(*other, "pull", *TRUST, *UNPACK, reference)

    def pull_anew() -> None:
        for ctr in (containerd.ctr, other):
            run(*ctr, "rm", "--sync", reference)
        pull()

    pulls = [pull, pull_by_another, pull, pull_anew]
    assert_one_row_each(trial, image, digest, pulls)
    trial.ledger.note(containerd.name, "had a row of the ledger for each pull")


def test_a_build_for_two_platforms_is_one_row(
    trial: Trial, builder: Builder, tmp_path: Path
) -> None:
    """And the next one, of a builder that has all of it, another."""
    image = "org/rows-buildkit"
    digest = trial.push("skopeo", Kind.INDEX, f"{image}:v1")
    name = f"{trial.registry.pull}/{image}:v1"
    (builder.context / "Dockerfile").write_text(f"FROM {name}\nCOPY Dockerfile /made\n")
    options = ("--opt=platform=linux/amd64,linux/arm64", f"--output=type=oci,dest={tmp_path}/made")

    def build() -> None:
        builder.build(*options)

    assert_one_row_each(trial, image, digest, [build, build])
