# SPDX-License-Identifier: Apache-2.0
"""Images of 1 GiB between buildsets: a copy that was killed, and twenty that are not copied."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST
from trustme import CA

from tests.api.configurations import TABLE
from tests.api.harness import Harness, Registry, digest_of
from tests.api.overlaid import make_world
from tests.instance.conftest import Desk
from tests.instance.conftest import desk as desk
from tests.instance.test_copy import Machine, copy_again
from tests.stores.fixtures import ObjectStores
from tests.unit.transfer.conftest import source as source
from tests.unit.transfer.fake_registry import FakeRegistry

_GIB = 1024**3
_IMAGES = 20


def push_large(holder: Registry, name: str) -> str:
    """Push an image whose layer has 1 GiB, and return its digest."""
    config, layer = b'{"of": "%s"}' % name.encode(), name.encode().ljust(1024) * (_GIB // 1024)
    kind = "application/vnd.oci.image"
    parts = [
        {
            "mediaType": f"{kind}.{what}",
            "digest": holder.push_blob(name, content),
            "size": len(content),
        }
        for what, content in (("config.v1+json", config), ("layer.v1.tar", layer))
    ]
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:]}
    ).encode()
    assert holder.put_manifest(name, "x", raw).status_code == 201
    return digest_of(raw)


@pytest.mark.timeout(600)
def test_a_copy_of_a_gibibyte_that_was_killed(
    desk: Desk, tmp_path: Path, source: FakeRegistry
) -> None:
    """As the test of that name in ``tests/instance``, in full size."""
    part = copy_again(Machine(desk, tmp_path), source, os.urandom(1 << 20) * 1024)
    print(f"1 GiB, killed at 60 %: {part:.1%} was sent when it was run again")
    assert part < 0.45


@pytest.mark.timeout(1800)
def test_twenty_images_of_a_gibibyte_are_there_at_once(
    tmp_path: Path, authority: CA, object_stores: ObjectStores
) -> None:
    """In two seconds, without a byte of a blob."""
    with Harness(tmp_path, authority, TABLE[0], object_stores) as harness:
        world = make_world(harness)
        images = {}
        for number in range(_IMAGES):
            name = f"quay.io/org/app{number}"
            images[f"{name}:v1"] = (name, push_large(world.holder, name))
        began = time.monotonic()
        assert world.hand(images) == []
        for name in images:
            path = name.replace(":", "/manifests/")
            assert world.buildset.pull.head(f"/v2/{path}").status_code == 200
        seconds = time.monotonic() - began
        fetched = world.asked("GET", "/blobs/")
    print(f"{_IMAGES} images of 1 GiB: ready in {seconds:.2f} s, {fetched} blobs fetched")
    assert seconds < 2
    assert fetched == 0
