# SPDX-License-Identifier: Apache-2.0
"""distribution and this registry over one container of Swift, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.interop.content import DOCKER_IMAGE, INDEX, Pusher, check
from tests.interop.registries import Identity, Program, distribution, ours
from tests.stores.fixtures import ObjectStores

#: distribution's least; what is larger comes in segments.
SEGMENT = 1024 * 1024
LARGE = bytes(range(256)) * (10 * 1024)  # 2.5 MiB


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    """A certificate and users for the registries of one test."""
    return Identity.make(tmp_path, trustme.CA())


@pytest.fixture
def swift(object_stores: ObjectStores) -> dict[str, Any]:
    """The settings of a new container, as both take them."""
    server = object_stores.swift
    return server.settings(server.container(), chunksize=SEGMENT, prefix="top")


def in_service(program: Program, storage: dict[str, Any]) -> Program:
    """Return a program that stores with a service, and hands blobs out itself."""

    def config(folder: Path, port: int, identity: Identity) -> dict[str, object]:
        tree: dict[str, Any] = program.config(folder, port, identity)
        if isinstance(tree["storage"], str):
            return {**tree, "storage": {**storage, "redirect": {"disable": True}}}
        del tree["storage"]["filesystem"]
        tree["storage"] |= {**storage, "redirect": {"disable": True}}
        return tree

    return Program(program.name, program.command, config)


@pytest.fixture
def programs(swift: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Program, Program]:
    """distribution 2.8, the last that knows Swift, and this registry, over one container."""
    # It panics where this is set.
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    theirs = distribution("distribution-2.8", "docker-registry")
    storage = {"swift": swift}
    return in_service(theirs, storage), in_service(ours(), storage)


def push(client: httpx.Client) -> Pusher:
    """Push one of each kind, among them a blob in several segments."""
    pusher, name = Pusher(client), "org/app"
    images = [pusher.image(name, seed, seed.decode()) for seed in (b"amd64", b"arm64")]
    pusher.index(name, INDEX, images, "multi")
    pusher.artifact(name, images[0], "signature")
    pusher.image("quay.io/org/deep/er/app", b"docker", "latest", media_type=DOCKER_IMAGE)
    pusher.blob(name, LARGE)
    return pusher


def test_what_distribution_stored_is_served_and_ours_by_it(
    programs: tuple[Program, Program], identity: Identity, tmp_path: Path
) -> None:
    """All kinds of content, and large blobs of both: theirs are dynamic, ours static objects."""
    theirs, own = programs
    with theirs.serving(tmp_path, identity) as client:
        first = push(client).content
    with own.serving(tmp_path, identity) as client:
        check(client, first)
        pusher = Pusher(client)
        pusher.image("ours/app", b"ours", "v1", "latest")
        for content in (LARGE + b"ours", b""):  # 2.8 fails to store an empty one here
            pusher.blob("ours/app", content)
        check(client, pusher.content)
    with theirs.serving(tmp_path, identity) as client:
        check(client, first)
        check(client, pusher.content)
        again = Pusher(client)
        again.image("their/app", b"third", "v1")
    with own.serving(tmp_path, identity) as client:
        check(client, again.content)
