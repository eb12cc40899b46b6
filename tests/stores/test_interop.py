# SPDX-License-Identifier: Apache-2.0
"""distribution and this registry over one container of Swift, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.interop.content import DOCKER_IMAGE, INDEX, Pusher, check
from tests.interop.registries import Identity, distribution, ours
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
    swift: dict[str, Any], identity: Identity
) -> None:
    """All kinds of content, and large blobs of both: theirs are dynamic, ours static objects.

    distribution 2.8 is the last that knows Swift.
    """
    theirs, own = distribution("distribution-2.8", "docker-registry"), ours()
    storage = {"swift": swift, "redirect": {"disable": True}}
    with theirs.serving(storage, identity) as client:
        first = push(client).content
    with own.serving(storage, identity) as client:
        check(client, first)
        pusher = Pusher(client)
        pusher.image("ours/app", b"ours", "v1", "latest")
        for content in (LARGE + b"ours", b""):  # 2.8 fails to store an empty one here
            pusher.blob("ours/app", content)
        check(client, pusher.content)
    with theirs.serving(storage, identity) as client:
        check(client, first)
        check(client, pusher.content)
        again = Pusher(client)
        again.image("their/app", b"third", "v1")
    with own.serving(storage, identity) as client:
        check(client, again.content)
