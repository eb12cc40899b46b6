# SPDX-License-Identifier: Apache-2.0
"""What is pushed to one registry and looked for in the next: one of each kind."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
INDEX = f"{OCI}.index.v1+json"
IMAGE = f"{OCI}.manifest.v1+json"
DOCKER_IMAGE = f"{DOCKER}.distribution.manifest.v2+json"
DOCKER_LIST = f"{DOCKER}.distribution.manifest.list.v2+json"

Descriptor = dict[str, object]


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes as text."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass
class Content:
    """What a client pushed, to be found again."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Bytes by repository and digest."""

    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    """Bytes and media type by repository and digest."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """Digest by tag, by repository."""

    def descriptor(self, name: str, digest: str) -> Descriptor:
        """Return the descriptor of a manifest that was pushed."""
        raw, media_type = self.manifests[name, digest]
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}


class Pusher:
    """A client that pushes, and remembers what."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.content = Content()

    def blob(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in two chunks and return its digest."""
        digest = digest_of(content, algorithm)
        started = self._client.post(f"/v2/{name}/blobs/uploads/")
        assert started.status_code == 202, started.text
        half = len(content) // 2
        appended = self._client.patch(started.headers["location"], content=content[:half])
        assert appended.status_code == 202, appended.text
        finish = httpx.URL(appended.headers["location"]).copy_merge_params({"digest": digest})
        done = self._client.put(finish, content=content[half:])
        assert done.status_code == 201, done.text
        self.content.blobs[name, digest] = content
        return digest

    def mount(self, name: str, digest: str, source: str) -> None:
        """Take a blob over from another repository."""
        query = {"mount": digest, "from": source}
        done = self._client.post(f"/v2/{name}/blobs/uploads/", params=query)
        assert done.status_code == 201, done.text
        self.content.blobs[name, digest] = self.content.blobs[source, digest]

    def manifest(
        self, name: str, tree: dict[str, Any], *tags: str, media_type: str | None = None
    ) -> str:
        """Push a manifest under tags, or by its digest where there are none."""
        raw = json.dumps(tree).encode()
        digest = digest_of(raw)
        said: str = media_type or tree["mediaType"]
        for reference in tags or (digest,):
            done = self._client.put(
                f"/v2/{name}/manifests/{reference}",
                content=raw,
                headers={"Content-Type": said},
            )
            assert done.status_code == 201, done.text
        self.content.manifests[name, digest] = raw, said
        self.content.tags.setdefault(name, {}).update(dict.fromkeys(tags, digest))
        return digest

    def image(
        self, name: str, seed: bytes, *tags: str, media_type: str = IMAGE, say_type: bool = True
    ) -> str:
        """Push a small image of a family of media types."""
        family = OCI if media_type == IMAGE else DOCKER
        config_type = (
            f"{family}.config.v1+json" if family == OCI else f"{DOCKER}.container.image.v1+json"
        )
        layer_type = (
            f"{family}.layer.v1.tar" if family == OCI else f"{DOCKER}.image.rootfs.diff.tar.gzip"
        )
        tree: dict[str, Any] = {"schemaVersion": 2}
        if say_type:
            tree["mediaType"] = media_type
        tree["config"] = self._descriptor(name, b'{"seed":"%s"}' % seed, config_type)
        tree["layers"] = [self._descriptor(name, seed * 1000, layer_type)]
        return self.manifest(name, tree, *tags, media_type=media_type)

    def index(self, name: str, media_type: str, children: Iterable[str], *tags: str) -> str:
        """Push an index of manifests that were pushed before."""
        platforms = ({"os": "linux", "architecture": one} for one in ("amd64", "arm64"))
        listed = [
            self.content.descriptor(name, child) | {"platform": platform}
            for child, platform in zip(children, platforms, strict=True)
        ]
        tree = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed}
        return self.manifest(name, tree, *tags)

    def artifact(self, name: str, subject: str, *tags: str) -> str:
        """Push an artifact that refers to a manifest, with the empty config."""
        tree = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": self._descriptor(name, b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [self._descriptor(name, b"signature", "application/x-signature")],
            "subject": self.content.descriptor(name, subject),
        }
        return self.manifest(name, tree, *tags)

    def _descriptor(self, name: str, content: bytes, media_type: str) -> Descriptor:
        return {
            "mediaType": media_type,
            "digest": self.blob(name, content),
            "size": len(content),
        }


def push_one_of_each(client: httpx.Client) -> Pusher:
    """Push images, indexes and artifacts of every kind that all three registries take."""
    pusher = Pusher(client)
    app = "org/app"
    pusher.image(app, b"first", "v1")
    pusher.image(app, b"second", "v1", *(f"build-{number:02}" for number in range(25)))
    pusher.image(app, b"typeless", "typeless", say_type=False)
    pusher.image(app, b"docker", "docker", media_type=DOCKER_IMAGE)
    amd, arm = pusher.image(app, b"amd64"), pusher.image(app, b"arm64")
    pusher.index(app, INDEX, (amd, arm), "multi")
    docker = [pusher.image(app, seed, media_type=DOCKER_IMAGE) for seed in (b"da", b"db")]
    pusher.index(app, DOCKER_LIST, docker, "docker-multi")
    pusher.artifact(app, amd, "signature")
    for name in ("app", "library/app2", "quay.io/org/deep/er/app", "org/app/nested"):
        pusher.image(name, name.encode(), "latest")
    pusher.mount("mounted", digest_of(b"first" * 1000), app)
    return pusher


def check(client: httpx.Client, content: Content) -> None:
    """Find everything again, byte for byte and by every way of asking."""
    for (name, digest), expected in content.blobs.items():
        check_blob(client, name, digest, expected)
    for (name, digest), (raw, media_type) in content.manifests.items():
        check_manifest(client, name, digest, raw, media_type)
    for name, tags in content.tags.items():
        for tag, digest in tags.items():
            raw, media_type = content.manifests[name, digest]
            answer = check_manifest(client, name, tag, raw, media_type)
            assert answer.headers["docker-content-digest"] == digest
        # distribution 2.8 lists tags as the folder has them; the order is ours to keep.
        assert sorted(pages(client, f"/v2/{name}/tags/list?n=7", "tags")) == sorted(tags)
    names = {name for name, _ in content.manifests}
    assert names <= set(pages(client, "/v2/_catalog?n=3", "repositories"))


def check_blob(client: httpx.Client, name: str, digest: str, expected: bytes) -> None:
    """Find a blob, its size, and a range of it."""
    url = f"/v2/{name}/blobs/{digest}"
    whole, size = client.get(url), client.head(url)
    assert whole.content == expected, whole
    assert size.headers["content-length"] == str(len(expected))
    if len(expected) > 3:
        part = client.get(url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, expected[1:4])


def check_manifest(
    client: httpx.Client, name: str, reference: str, raw: bytes, media_type: str
) -> httpx.Response:
    """Find a manifest as it was pushed, and return the answer."""
    answer = client.get(
        f"/v2/{name}/manifests/{reference}", headers={"Accept": f"{media_type}, */*"}
    )
    assert answer.content == raw, answer.text
    assert answer.headers["content-type"] == media_type
    return answer


def pages(client: httpx.Client, url: str, key: str) -> list[str]:
    """Follow a list to its end as clients do, by the Link header alone."""
    found: list[str] = []
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        found += answer.json()[key] or []
        following = urlsplit(answer.links.get("next", {}).get("url") or "")
        url = f"{following.path}?{following.query}" if following.path else ""
    return found
