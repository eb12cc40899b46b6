# SPDX-License-Identifier: Apache-2.0
"""podman, buildah, skopeo and cri-o: mirrors of registries.conf, trust in certs.d, and policies."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path

from .. import proxies
from ..canary.image import Image, digest_of
from ..edits import Edit
from ..formats import certs_d, registries_conf
from ..node import ManagedNode
from ..registry import Namespace, Setup
from . import policies, registries
from .base import Tool


def edits(node: ManagedNode, setup: Setup) -> list[Edit]:
    """Configure everything that reads containers' files."""
    folder = f"{registries.base(node)}/certs.d"
    made = registries.edits(node, setup) + policies.edits(node, setup)
    return made + certs_d.edits("containers", folder, setup.registry)


class _ContainersTool(Tool, ABC):
    """A tool that goes by registries.conf and certs.d of containers."""

    def in_effect(self, namespace: Namespace) -> tuple[str, list[str]]:
        """Tell the mirrors of the entry that counts, after the file that has it."""
        table = registries_conf.in_effect(registries.seen(self.node).entries)
        # The canary is below the registry's name, where no longer prefix is in the way.
        found = registries_conf.best(table, namespace.name)
        return (found.path, found.addresses) if found else ("registries.conf", [])

    def authorities(self, namespace: Namespace, address: str) -> tuple[str, list[Path]]:
        """Tell those of the first folder that there is: the user's, the system's, or docker's."""
        configured = [f"{self.node.me.home}/.config/containers", "/etc/containers", "/etc/docker"]
        folders = [f"{folder}/certs.d" for folder in configured]
        return certs_d.authorities(self.node, folders, address)


class _StorageTool(_ContainersTool, ABC):
    """A tool that keeps images in containers' storage, and tells each by its ID."""

    storage = "containers"

    def expected(self, image: Image) -> str:
        """Return the image's ID."""
        return image.identity


class Podman(_StorageTool):
    """podman, which pulls several images at once."""

    program = "podman"

    def environment(self) -> proxies.Environment:
        """Tell the task's, and what containers.conf(5) has for podman's engine besides."""
        return proxies.of_podman(self.node)

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull all of them by one command."""
        told = self.run("pull", "--quiet", *names).decode().split()
        self.run("rmi", *names)
        return [f"sha256:{identity}" for identity in told]


class Buildah(_StorageTool):
    """buildah, which pulls one image at a time."""

    program = "buildah"

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Pull each of them, even where an image of this ID is in the storage."""
        always = ["pull", "--policy", "always", "--quiet"]
        told = [self.run(*always, name).decode().strip() for name in names]
        self.run("rmi", *names)
        return [f"sha256:{identity}" for identity in told]


class Skopeo(_ContainersTool):
    """skopeo, which keeps no images."""

    program = "skopeo"

    def pull(self, image: Image, names: Sequence[str]) -> list[str]:
        """Get the manifest of each."""
        return [digest_of(self.run("inspect", "--raw", f"docker://{name}")) for name in names]
