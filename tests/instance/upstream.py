# SPDX-License-Identifier: Apache-2.0
"""A registry that plays an upstream, started by the command, and images in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

from tests.api.harness import digest_of
from tests.instance.conftest import Desk

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass
class Upstream:
    """The upstream of some registries, by which they pull docker.io and quay.io through."""

    desk: Desk
    facts: dict[str, Any]

    @classmethod
    def start(cls, desk: Desk) -> Upstream:
        """Start one in the folder of ``desk``."""
        return cls(desk, desk.up("--upstreams-file", "-", stdin="[]")["facts"])

    def settings(self, *names: str) -> str:
        """Return the list of upstreams for ``--upstreams-file`` by which others pull through."""
        url = f"https://127.0.0.1:{self.facts['port']}"
        ca = str(self.desk.root / "cert.pem")
        return json.dumps([{"name": name, "url": url, "ca": ca} for name in names])

    def stop(self) -> None:
        """Be unplugged."""
        assert self.desk.run("down").returncode == 0

    def push(self, name: str, tag: str, seed: str, *platforms: str) -> str:
        """Push an image, or an index with one for each platform; return its digest."""
        if not platforms:
            return digest_of(self._put(name, tag, self._image(name, seed, "linux/amd64")))
        listed = [self._listed(name, self._image(name, seed, one), one) for one in platforms]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return digest_of(self._put(name, tag, json.dumps(index).encode()))

    def delete(self, name: str, digest: str) -> None:
        """Remove a manifest, as a registry does that keeps no old ones."""
        path = f"/v2/{name}/manifests/{digest}"
        answer = self.desk.ask(self.facts, path, "DELETE", which="push_", login=True)
        assert answer.status == 202, answer

    def _listed(self, name: str, raw: bytes, platform: str) -> dict[str, object]:
        """Push a manifest by its digest, and return what an index says of it."""
        parts = zip(("os", "architecture", "variant"), platform.split("/"), strict=False)
        digest = digest_of(self._put(name, digest_of(raw), raw))
        tree = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(raw)}
        return {**tree, "platform": dict(parts)}

    def _image(self, name: str, seed: str, platform: str) -> bytes:
        system, _separator, architecture = platform.partition("/")
        config = json.dumps({"os": system, "architecture": architecture, "seed": seed}).encode()
        layer = f"{seed} of {platform}".encode() * 10
        tree = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(name, config, CONFIG),
            "layers": [self._blob(name, layer, LAYER)],
        }
        return json.dumps(tree).encode()

    def _put(self, name: str, reference: str, raw: bytes) -> bytes:
        path = f"/v2/{name}/manifests/{reference}"
        answer = self.desk.ask(self.facts, path, "PUT", raw, which="push_", login=True)
        assert answer.status == 201, answer
        return raw

    def _blob(self, name: str, content: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(content)
        path = f"/v2/{name}/blobs/uploads/?digest={digest}"
        answer = self.desk.ask(self.facts, path, "POST", content, which="push_", login=True)
        assert answer.status == 201, answer
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


def pull(desk: Desk, facts: dict[str, Any], image: str) -> str:
    """Pull an image as clients do, with its blobs; return the digest that the tag has."""
    name, _separator, tag = image.rpartition(":")
    head = desk.ask(facts, f"/v2/{name}/manifests/{tag}", "HEAD")
    assert head.status == 200, head
    digest = str(head.headers["Docker-Content-Digest"])
    waiting = [digest]
    while waiting:
        raw = desk.ask(facts, f"/v2/{name}/manifests/{waiting.pop()}")
        assert raw.status == 200, raw
        tree = json.loads(raw.content)
        waiting += [one["digest"] for one in tree.get("manifests", [])]
        for blob in [*tree.get("layers", []), *([tree["config"]] if "config" in tree else [])]:
            answer = desk.ask(facts, f"/v2/{name}/blobs/{blob['digest']}")
            assert digest_of(answer.content) == blob["digest"]
    return digest


def make_layout(folder: Path, desk: Desk, facts: dict[str, Any], images: dict[str, Any]) -> None:
    """Write the images of a lock as an OCI image layout, as registries' clients do."""
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    listed = []
    for image, entry in images.items():
        name = image.rpartition(":")[0]
        raw = _save(folder, desk.ask(facts, f"/v2/{name}/manifests/{entry['digest']}").content)
        listed.append(_entry(raw, image))
        waiting = [raw]
        while waiting:
            tree = json.loads(waiting.pop())
            for one in tree.get("manifests", []):
                path = f"/v2/{name}/manifests/{one['digest']}"
                waiting.append(_save(folder, desk.ask(facts, path).content))
            for one in [*tree.get("layers", []), *([tree["config"]] if "config" in tree else [])]:
                _save(folder, desk.ask(facts, f"/v2/{name}/blobs/{one['digest']}").content)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    (folder / "index.json").write_text(json.dumps(index))


def _entry(raw: bytes, image: str) -> dict[str, object]:
    media_type = json.loads(raw)["mediaType"]
    named = {"org.opencontainers.image.ref.name": image}
    tree = {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw)}
    return {**tree, "annotations": named}


def _save(folder: Path, content: bytes) -> bytes:
    (folder / "blobs/sha256" / digest_of(content).removeprefix("sha256:")).write_bytes(content)
    return content


def lock_of(desk: Desk, file: Path) -> dict[str, Any]:
    """Have a registry write its lock, and return its images."""
    done = desk.run("lock", "--output", file)
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = json.loads(file.read_text())
    assert tree["version"] == 1
    images: dict[str, Any] = tree["images"]
    return images
