# SPDX-License-Identifier: Apache-2.0
"""Images of the tests' own making: a static busybox, put together by umoci, buildah and skopeo."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.clients.commands import run

BUSYBOX = Path("/bin/busybox")
ARCHITECTURES = ("amd64", "arm64")


class Kind(Enum):
    """What a client can push."""

    OCI = "OCI image"
    DOCKER = "docker schema 2 image"
    ZSTD = "OCI image with zstd layers"
    INDEX = "OCI index"
    LIST = "docker manifest list"


@dataclass(frozen=True)
class Source:
    """One program for two platforms, in the forms that clients load."""

    layout: Path
    """An OCI layout with a tag for each architecture, and one for the index of both."""

    folder: Path

    def oci(self, tag: str) -> str:
        """Name an image of the layout as skopeo, podman and buildah do."""
        return f"oci:{self.layout}:{tag}"

    def archive(self, name: str) -> Path:
        """Write the amd64 image as docker loads it, under a name."""
        path = self.folder / "image.tar"
        path.unlink(missing_ok=True)
        run("skopeo", "copy", "--quiet", self.oci("amd64"), f"docker-archive:{path}:{name}")
        return path


def make_source(folder: Path, words: str = "first") -> Source:
    """Make images that hold busybox and some words, so that different words are other images."""
    folder.mkdir(parents=True)
    layout = folder / "layout"
    run("umoci", "init", "--layout", layout)
    for architecture in ARCHITECTURES:
        tree = folder / architecture
        (tree / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, tree / "bin" / "busybox")
        (tree / "words").write_text(f"{words} for {architecture}\n")
        image = f"{layout}:{architecture}"
        run("umoci", "new", "--image", image)
        run("umoci", "insert", "--image", image, tree, "/")
        settings = ["--config.cmd=/bin/busybox", f"--architecture={architecture}", "--os=linux"]
        run("umoci", "config", "--image", image, *settings)
    _make_index(layout)
    return Source(layout, folder)


def make_large(folder: Path, megabytes: int) -> Source:
    """Make an image of random bytes, which no compression makes smaller."""
    layout, content = folder / "layout", folder / "content"
    folder.mkdir(parents=True)
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:amd64")
    with content.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(2**20))
    run("umoci", "insert", "--image", f"{layout}:amd64", content, "/content")
    content.unlink()
    return Source(layout, folder)


def _make_index(layout: Path) -> None:
    """Add an index of the architectures to a layout."""
    run("buildah", "manifest", "create", "architectures")
    for architecture in ARCHITECTURES:
        run("buildah", "manifest", "add", "architectures", f"oci:{layout}:{architecture}")
    push = ["buildah", "manifest", "push", "--all", "--format", "oci", "--quiet"]
    run(*push, "architectures", f"oci:{layout}:index")
    run("buildah", "manifest", "rm", "architectures")
