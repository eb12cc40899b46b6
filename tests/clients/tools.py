# SPDX-License-Identifier: Apache-2.0
"""The clients, each able to log in, push and pull as its users do by its command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from tests.clients import daemon
from tests.clients.commands import run
from tests.clients.images import ARCHITECTURES, Kind, Source

_FORMATS = {Kind.DOCKER: "v2s2", Kind.LIST: "v2s2"}
_SEVERAL = (Kind.INDEX, Kind.LIST)


@dataclass(frozen=True)
class Pulled:
    """What a client says of an image that it pulled."""

    digest: str
    """The digest of what the name stands for: of the index, where it is one."""

    config: str
    """The digest of the image's configuration, which names every layer's content."""


class Client(Protocol):
    """A program that pushes and pulls."""

    name: str
    program: tuple[str, ...]
    pushes: tuple[Kind, ...]
    pulls: tuple[Kind, ...]

    def version(self) -> str:
        """Tell the version."""

    def pushing(self, source: Source, kind: Kind, reference: str) -> list[str]:
        """Prepare a push, and return the command for it."""

    def push(self, source: Source, kind: Kind, reference: str) -> str:
        """Push an image and return its digest."""

    def pulling(self, reference: str) -> list[str]:
        """Forget all images, and return the command that pulls one."""

    def pull(self, reference: str) -> Pulled:
        """Pull an image of which the client has nothing yet."""


def login_command(client: Client, address: str, user: str) -> list[str]:
    """Return the command that logs in; the password goes to its standard input."""
    return [*client.program, "login", "--username", user, "--password-stdin", address]


def login(client: Client, address: str, user: str, password: str) -> None:
    """Log in."""
    run(*login_command(client, address, user), stdin=password)


@contextmanager
def logged_out() -> Iterator[None]:
    """Hide the credentials of all clients."""
    shared, docker = Path("/run/containers/0/auth.json"), Path.home() / ".docker/config.json"
    kept = {path: path.read_bytes() for path in (shared, docker) if path.exists()}
    for path in kept:
        path.unlink()
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


class Skopeo:
    """skopeo, which copies between registries and folders."""

    name = "skopeo"
    program: tuple[str, ...] = ("skopeo",)
    pushes: tuple[Kind, ...] = tuple(Kind)
    pulls: tuple[Kind, ...] = tuple(Kind)

    def __init__(self, folder: Path) -> None:
        self._digest = folder / "skopeo.digest"
        self._plain = folder / "plain"
        self._pulled = folder / "pulled"

    def version(self) -> str:
        return run("skopeo", "--version").split()[-1]

    def pushing(self, source: Source, kind: Kind, reference: str) -> list[str]:
        forget_blobs()
        options = ["--digestfile", str(self._digest)]
        image = source.oci("index" if kind in _SEVERAL else "amd64")
        if kind in _SEVERAL:
            options += ["--all"]
        if kind in _FORMATS:
            options += ["--format", _FORMATS[kind]]
        elif kind is Kind.ZSTD:
            # Compressed anew is what is not compressed yet.
            shutil.rmtree(self._plain, ignore_errors=True)
            run("skopeo", "copy", "--dest-decompress", image, f"dir:{self._plain}")
            image = f"dir:{self._plain}"
            options += ["--dest-compress-format", "zstd", "--format", "oci"]
        else:
            options += ["--preserve-digests"]
        return ["skopeo", "copy", *options, image, f"docker://{reference}"]

    def push(self, source: Source, kind: Kind, reference: str) -> str:
        run(*self.pushing(source, kind, reference))
        return self._digest.read_text()

    def pulling(self, reference: str) -> list[str]:
        shutil.rmtree(self._pulled, ignore_errors=True)
        choice = ["--override-arch", "amd64", "--override-os", "linux"]
        return ["skopeo", *choice, "copy", f"docker://{reference}", f"dir:{self._pulled}"]

    def pull(self, reference: str) -> Pulled:
        run(*self.pulling(reference))
        manifest = json.loads((self._pulled / "manifest.json").read_text())
        raw = run("skopeo", "inspect", "--raw", f"docker://{reference}")
        digest = "sha256:" + hashlib.sha256(raw.encode()).hexdigest()
        return Pulled(digest, manifest["config"]["digest"])


class Storage:
    """podman or buildah: the same options, and one storage, which is inspected by podman."""

    pushes: tuple[Kind, ...] = tuple(Kind)
    pulls: tuple[Kind, ...] = tuple(Kind)

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.program: tuple[str, ...] = (name,)
        self._digest = folder / f"{name}.digest"

    def version(self) -> str:
        return run(self.name, "--version").split()[2]

    def pushing(self, source: Source, kind: Kind, reference: str) -> list[str]:
        clean_storage()
        options = ["--digestfile", str(self._digest), "--format", _FORMATS.get(kind, "oci")]
        if kind in _SEVERAL:
            run(self.name, "manifest", "create", "list")
            for image in self._images(source, kind):
                run(self.name, "manifest", "add", "list", image)
            push = [self.name, "manifest", "push", "--all", *options]
            return [*push, "list", f"docker://{reference}"]
        if kind is Kind.ZSTD:
            options += ["--compression-format", "zstd"]
        loaded = run(self.name, "pull", "--quiet", source.oci("amd64")).strip()
        return [self.name, "push", *options, loaded, reference]

    def push(self, source: Source, kind: Kind, reference: str) -> str:
        run(*self.pushing(source, kind, reference))
        return self._digest.read_text()

    def pulling(self, reference: str) -> list[str]:
        clean_storage()
        return [self.name, "pull", reference]

    def pull(self, reference: str) -> Pulled:
        run(*self.pulling(reference))
        image = json.loads(run("podman", "image", "inspect", reference))[0]
        return Pulled(image["Digest"], f"sha256:{image['Id']}")

    def _images(self, source: Source, kind: Kind) -> list[str]:
        """Name the images of an index in the form that the index is to hold."""
        if kind is Kind.INDEX:
            return [source.oci(architecture) for architecture in ARCHITECTURES]
        images = []
        for architecture in ARCHITECTURES:
            folder = source.folder / f"docker-{architecture}"
            shutil.rmtree(folder, ignore_errors=True)
            words = ["--quiet", "--format", "v2s2", source.oci(architecture), f"dir:{folder}"]
            run("skopeo", "copy", *words)
            images.append(f"dir:{folder}")
        return images


class Docker:
    """docker's daemon and its command line."""

    name = "docker"
    pushes: tuple[Kind, ...] = (Kind.DOCKER, Kind.LIST)
    # Debian's 20.10 takes a zstd layer for a tar archive.
    pulls: tuple[Kind, ...] = (Kind.OCI, Kind.DOCKER, Kind.INDEX, Kind.LIST)

    def __init__(self, host: str = "") -> None:
        self.program: tuple[str, ...] = ("docker", *(["--host", host] if host else []))

    def version(self) -> str:
        return run(*self.program, "version", "--format", "{{.Server.Version}}").strip()

    def pushing(self, source: Source, kind: Kind, reference: str) -> list[str]:
        self.clean()
        run(*self.program, "load", "--input", source.archive(reference))
        if kind is Kind.LIST:
            # The list is made of images that are in the registry.
            part = f"{reference}-amd64"
            run(*self.program, "tag", reference, part)
            run(*self.program, "push", part)
            run(*self.program, "manifest", "create", reference, part)
            return [*self.program, "manifest", "push", reference]
        return [*self.program, "push", reference]

    def push(self, source: Source, kind: Kind, reference: str) -> str:
        said = run(*self.pushing(source, kind, reference))
        return "sha256:" + said.rpartition("sha256:")[2].split()[0]

    def pulling(self, reference: str) -> list[str]:
        self.clean()
        return [*self.program, "pull", reference]

    def pull(self, reference: str) -> Pulled:
        run(*self.pulling(reference))
        image = json.loads(run(*self.program, "image", "inspect", reference))[0]
        return Pulled(image["RepoDigests"][0].partition("@")[2], self.config_of(image))

    def config_of(self, image: dict[str, Any]) -> str:
        """Tell the digest of the configuration of an image that was inspected."""
        return str(image["Id"])

    def clean(self) -> None:
        """Remove every image."""
        images = run(*self.program, "image", "ls", "--all", "--quiet").split()
        if images:
            run(*self.program, "image", "rm", "--force", *sorted(set(images)))


class CurrentDocker(Docker):
    """The current docker, which keeps its images in containerd."""

    name = "docker-current"
    pulls: tuple[Kind, ...] = tuple(Kind)

    def __init__(self) -> None:
        super().__init__(daemon.DOCKER_HOST)

    def version(self) -> str:
        return daemon.built("dockerd")

    def config_of(self, image: dict[str, Any]) -> str:
        """Follow what containerd has: the image's own digest is that of its manifest or index."""
        tree = self._content(image["Id"])
        for entry in tree.get("manifests", []):
            if entry["platform"]["architecture"] == "amd64":
                tree = self._content(entry["digest"])
        return str(tree["config"]["digest"])

    def _content(self, digest: str) -> dict[str, Any]:
        ctr = [str(daemon.CURRENT / "ctr"), "--address", str(daemon.CONTAINERD_SOCKET)]
        content = run(*ctr, "--namespace", "moby", "content", "get", digest)
        return cast("dict[str, Any]", json.loads(content))


def forget_blobs() -> None:
    """Remove what skopeo, podman and buildah remember of the blobs in registries.

    skopeo 1.9 pushes a schema 2 image with a zstd layer, and fails, where it remembers one.
    """
    Path("/var/lib/containers/cache/blob-info-cache-v1.boltdb").unlink(missing_ok=True)


def clean_storage() -> None:
    """Remove every image of podman and buildah."""
    forget_blobs()
    run("podman", "image", "rm", "--all", "--force")


#: What each client is made to push.
PUSHES = {
    "skopeo": Skopeo.pushes,
    "podman": Storage.pushes,
    "buildah": Storage.pushes,
    "docker": Docker.pushes,
    "docker-current": CurrentDocker.pushes,
}
