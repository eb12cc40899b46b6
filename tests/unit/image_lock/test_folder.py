# SPDX-License-Identifier: Apache-2.0
"""Folders of images as somebody else may have left them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.image_lock.document import ImageLock
from buildset_registry.image_lock.folder import ImageFolder
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest


class Layout:
    """An OCI image layout that is written blob by blob."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')

    def blob(self, content: bytes) -> dict[str, Any]:
        """Write a blob, and return its descriptor."""
        digest = Digest.of(content)
        (self.path / "blobs" / "sha256" / digest.hex).write_bytes(content)
        return {"mediaType": "text/plain", "digest": str(digest), "size": len(content)}

    def image(self, *layers: dict[str, Any]) -> dict[str, Any]:
        """Write an image, and return its descriptor."""
        tree = {"schemaVersion": 2, "config": self.blob(b"{}"), "layers": list(layers)}
        return self.blob(json.dumps(tree).encode()) | {"mediaType": OCI_MANIFEST}

    def index(self, manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Write an index, and return its descriptor."""
        tree = {"schemaVersion": 2, "manifests": list(manifests)}
        return self.blob(json.dumps(tree).encode()) | {"mediaType": OCI_INDEX}

    def missing(self, image: dict[str, Any]) -> bool:
        """Tell whether a lock of an image finds it lacking here."""
        entry = {
            "digest": image["digest"],
            "media_type": image["mediaType"],
            "platforms": [],
            "source": "docker.io",
            "first_seen": "2026-01-01",
        }
        text = json.dumps({"version": 1, "images": {"docker.io/org/app:1": entry}})
        return bool(ImageFolder(self.path, ImageLock.parse(text, "lock")).missing)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


def test_an_image_is_there_with_its_layers(layout: Layout) -> None:
    assert not layout.missing(layout.image(layout.blob(b"layer")))


def test_a_layer_of_another_size_is_not_there(layout: Layout) -> None:
    """What comes after its size would go to clients before its digest is known."""
    layer = layout.blob(b"layer")
    image = layout.image(layer)
    file = layout.path / "blobs" / "sha256" / layer["digest"].partition(":")[2]
    file.write_bytes(b"layer and more")
    assert layout.missing(image)


def test_indexes_that_list_the_same_many_times_are_looked_at_once(layout: Layout) -> None:
    """Also where what they lead to is not there."""
    lacking = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"none")), "size": 4}
    for _ in range(8):
        lacking = layout.index([lacking] * 60)
    began = time.process_time()
    assert layout.missing(lacking)
    assert time.process_time() - began < 5


def test_indexes_without_end_are_lacking(layout: Layout) -> None:
    deep = layout.image(layout.blob(b"layer"))
    for _ in range(2000):
        deep = layout.index([deep])
    assert layout.missing(deep)


def test_a_manifest_that_cannot_be_read_is_one_line(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads everything: the refusal of the system is put in."""
    image = layout.image(layout.blob(b"layer"))
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == image["digest"].partition(":")[2]:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match="Permission denied; let the registry's user read it"):
        layout.missing(image)
