# SPDX-License-Identifier: Apache-2.0
"""What is pushed and pulled: random files, new for each round, the same for each peer."""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import MANIFEST_TYPE, Blob, digest_of

_BLOCK = 1 << 22
#: An image's layers: parts of its size.
_LAYERS = (1, 2, 4, 8, 12, 20, 30, 45, 70, 100)
#: A buildset's layers, in bytes: how many of a hundred are between which sizes.
_MIX = ((65, 10_000, 10**6), (15, 10**6, 10**7), (18, 10**7, 2 * 10**8), (2, 2 * 10**8, 4 * 10**8))
_MIX_IMAGES = 3
_MIX_LAYERS = (8, 18)


@dataclass(frozen=True)
class Image:
    """A configuration and layers; ``manifest`` names them."""

    config: bytes
    layers: list[Blob]

    @property
    def size(self) -> int:
        """Bytes of the layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def manifest(self) -> bytes:
        """The image's manifest."""
        return manifest(self.config, [(layer.digest, layer.size) for layer in self.layers])


def manifest(config: bytes, layers: list[tuple[str, int]]) -> bytes:
    """Return a manifest of a configuration and of layers' digests and sizes."""
    kind = "application/vnd.oci.image"
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": f"{kind}.config.v1+json",
                "digest": digest_of(config),
                "size": len(config),
            },
            "layers": [
                {"mediaType": f"{kind}.layer.v1.tar", "digest": digest, "size": size}
                for digest, size in layers
            ],
        }
    ).encode()


@dataclass
class Content:
    """Files below ``folder``; ``size`` is that of the large blob and of an image."""

    folder: Path
    size: int
    seed: str
    _made: dict[tuple[str, int], Blob] = field(default_factory=dict)

    def blob(self, name: str, size: int, version: int = 0) -> Blob:
        """Return the file ``name``; its first bytes are of that version only."""
        known = self._made.get((name, version))
        if known is not None:
            return known
        path = self.folder / name
        _fill(path, size)
        with path.open("r+b") as file:
            file.write(hashlib.sha256(f"{self.seed} {name} {version}".encode()).digest()[:size])
        with path.open("rb") as file:
            hashed = hashlib.sha256()
            while block := file.read(_BLOCK):
                hashed.update(block)
        os.sync()
        return self._made.setdefault(
            (name, version), Blob(path, f"sha256:{hashed.hexdigest()}", size)
        )

    def image(self, name: str, version: int = 0) -> Image:
        """Return an image of ten layers."""
        sizes = [self.size * part // sum(_LAYERS) for part in _LAYERS]
        return self._image(name, sizes, version)

    def layers(self, name: str, sizes: list[int]) -> Image:
        """Return an image of layers of these sizes."""
        return self._image(name, sizes, 0)

    def buildset(self, version: int) -> list[Image]:
        """Return a buildset's images: the same sizes in each run, all of them for 1 GiB."""
        chance = random.Random("a buildset")
        images = []
        for number in range(_MIX_IMAGES):
            sizes = [self._layer(chance) for _ in range(chance.randint(*_MIX_LAYERS))]
            images.append(self._image(f"buildset{number}", sizes, version))
        return images

    def _layer(self, chance: random.Random) -> int:
        (_, least, most) = chance.choices(_MIX, [part[0] for part in _MIX])[0]
        return max(64, chance.randint(least, most) * self.size >> 30)

    def _image(self, name: str, sizes: list[int], version: int) -> Image:
        layers = [self.blob(f"{name}-{at}", size, version) for at, size in enumerate(sizes)]
        config = {"architecture": "amd64", "os": "linux", "rootfs": [one.digest for one in layers]}
        return Image(json.dumps(config).encode(), layers)


def _fill(path: Path, size: int) -> None:
    """Make a file of random bytes where there is none of that size."""
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - start)))
