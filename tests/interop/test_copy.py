# SPDX-License-Identifier: Apache-2.0
"""Images go from registry to registry and through folders, and are what they were."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.content import (
    INDEX,
    OCI,
    Content,
    check,
    check_manifest,
    digest_of,
    push_one_of_each,
)
from tests.interop.registries import PASSWORD, USER, Identity, Program


class Copier:
    """The command, with what it needs for the registries of one test."""

    def __init__(self, identity: Identity) -> None:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.docker = identity.folder / "docker"
        self.docker.mkdir()
        self.ca = identity.folder / "ca.pem"
        chain = identity.trust.get_ca_certs(binary_form=True)
        self.ca.write_text("".join(map(_pem, chain)))
        self._auths: dict[str, Any] = {"auth": pair}

    def log_in(self, *clients: httpx.Client) -> None:
        """Write the file of docker login."""
        tree = {"auths": {host(client): self._auths for client in clients}}
        (self.docker / "config.json").write_text(json.dumps(tree))

    def copy(self, *words: str) -> dict[str, Any]:
        """Copy, and return what ``--json`` tells."""
        file = str(self.docker / "config.json")
        options = ["--json", "--authfile", file]
        options += ["--source-ca", str(self.ca), "--dest-ca", str(self.ca)]
        command = [sys.executable, "-m", "buildset_registry", "copy", *options, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def _pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def host(client: httpx.Client) -> str:
    """Return the host and port of a client's registry."""
    return f"{client.base_url.host}:{client.base_url.port}"


@pytest.fixture
def copier(identity: Identity) -> Copier:
    """The command, logged in nowhere yet."""
    return Copier(identity)


def images(content: Content) -> list[str]:
    """Return every image by a name: those by tag, and those that only have a digest."""
    tagged = [f"{name}:{tag}" for name, tags in content.tags.items() for tag in tags]
    return tagged + [f"{name}@{digest}" for name, digest in content.manifests]


@pytest.mark.parametrize("outward", [True, False], ids=["from ours", "to ours"])
def test_one_of_each_kind_is_the_same_in_another_registry(
    tmp_path: Path,
    identity: Identity,
    registry: Program,
    other: Program,
    copier: Copier,
    outward: bool,
) -> None:
    """Bytes, digests, types, tags and lists; a second copy sends no blob."""
    programs = (registry, other) if outward else (other, registry)
    with (
        programs[0].serving(tmp_path / "a", identity) as source,
        programs[1].serving(tmp_path / "b", identity) as destination,
    ):
        content = push_one_of_each(source).content
        content.blobs = {key: one for key, one in content.blobs.items() if key[0] != "mounted"}
        copier.log_in(source, destination)
        there = host(source)
        words = [*(f"{there}/{one}" for one in images(content)), f"{host(destination)}/"]
        copier.copy(*words)
        if outward:
            expect_fallback_tag(destination, content)
        check(destination, content)
        told = copier.copy(*words)
        assert (told["moved"], told["mounted"]) == (0, 0)
        assert told["skipped"] > 0


def expect_fallback_tag(destination: httpx.Client, content: Content) -> None:
    """Add the tag that lists the artifact: distribution has no referrers API."""
    name, signature = "org/app", content.tags["org/app"]["signature"]
    subject = json.loads(content.manifests[name, signature][0])["subject"]["digest"]
    tag = subject.replace(":", "-")
    raw = destination.get(f"/v2/{name}/manifests/{tag}", headers={"Accept": INDEX}).content
    assert [one["digest"] for one in json.loads(raw)["manifests"]] == [signature]
    content.tags[name][tag] = digest_of(raw)
    content.manifests[name, digest_of(raw)] = raw, INDEX


def test_what_a_folder_holds_is_read_by_skopeo_and_crane(
    tmp_path: Path, identity: Identity, registry: Program, other: Program, copier: Copier
) -> None:
    """And comes back to a registry as it was."""
    with (
        registry.serving(tmp_path / "a", identity) as source,
        other.serving(tmp_path / "b", identity) as destination,
    ):
        content = push_one_of_each(source).content
        copier.log_in(source, destination)
        tags = {
            tag: digest
            for tag, digest in content.tags["org/app"].items()
            if not tag.startswith("build-")
        }
        sources = [f"{host(source)}/org/app:{tag}" for tag in tags]
        copier.copy(*sources, f"oci:{tmp_path}/folder")
        for tag, digest in tags.items():
            raw, media_type = content.manifests["org/app", digest]
            # skopeo looks for OCI's own types alone in such a folder.
            if media_type.startswith(OCI):
                found = read("skopeo", "inspect", "--raw", f"oci:{tmp_path}/folder:{tag}")
                assert found == raw
        back = [f"oci:{tmp_path}/folder:{tag}" for tag in tags]
        copier.copy(*back, f"{host(destination)}/back")
        for tag, digest in tags.items():
            check_manifest(destination, "back", tag, *content.manifests["org/app", digest])
        copier.copy(f"oci:{tmp_path}/folder:multi", f"oci:{tmp_path}/single")
        environment = {"SSL_CERT_FILE": str(copier.ca), "DOCKER_CONFIG": str(copier.docker)}
        target = f"{host(destination)}/crane:multi"
        read("crane", "push", "--index", str(tmp_path / "single"), target, **environment)
        found = read("crane", "digest", f"{host(source)}/org/app:multi", **environment)
        assert found.decode().strip() == tags["multi"]


def read(*command: str, **environment: str) -> bytes:
    """Run a client and return what it prints."""
    done = subprocess.run(
        command, capture_output=True, env=os.environ | environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_registry_moves_no_bytes(
    tmp_path: Path, identity: Identity, other: Program, copier: Copier
) -> None:
    """It mounts them from the other repository."""
    with other.serving(tmp_path / "a", identity) as client:
        content = push_one_of_each(client).content
        copier.log_in(client)
        told = copier.copy(f"{host(client)}/org/app:multi", f"{host(client)}/promoted:multi")
        assert (told["moved"], told["skipped"]) == (0, 0)
        assert told["mounted"] > 0
        digest = content.tags["org/app"]["multi"]
        check_manifest(client, "promoted", "multi", *content.manifests["org/app", digest])
