# SPDX-License-Identifier: Apache-2.0
"""Older and odd manifests: what each is taken as, and what is refused with a reason."""

import json

import pytest
from buildset_registry.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    OCI_INDEX,
    OCI_MANIFEST,
)
from httpx import Response

from tests.api.harness import Registry, digest_of

EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(media_type: str, content: bytes, **more: object) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": digest_of(content),
        "size": len(content),
        **more,
    }


def put(
    registry: Registry, reference: str, tree: object, media_type: str
) -> tuple[bytes, Response]:
    raw = json.dumps(tree).encode()
    return raw, registry.put_manifest("org/app", reference, raw, media_type)


def assert_kept(registry: Registry, reference: str, raw: bytes, media_type: str) -> None:
    """Make sure that a manifest comes back as it was pushed, by tag and by digest."""
    for one in (reference, digest_of(raw)):
        answer = registry.pull.get(f"/v2/org/app/manifests/{one}")
        assert (answer.content, answer.headers["content-type"]) == (raw, media_type)


def test_a_docker_image_and_a_list_of_them(registry: Registry) -> None:
    """Schema 2 and manifest lists, as docker before OCI pushes them."""
    registry.push_blob("org/app", b"config")
    registry.push_blob("org/app", b"layer")
    image = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", b"config"),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer")],
    }
    raw, answer = put(registry, "v1", image, DOCKER_MANIFEST)
    assert answer.status_code == 201
    assert_kept(registry, "v1", raw, DOCKER_MANIFEST)
    platform = {"platform": {"architecture": "amd64", "os": "linux"}}
    many = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST,
        "manifests": [descriptor(DOCKER_MANIFEST, raw, **platform)],
    }
    raw, answer = put(registry, "all", many, DOCKER_LIST)
    assert answer.status_code == 201
    assert_kept(registry, "all", raw, DOCKER_LIST)


@pytest.mark.parametrize("media_type", sorted(DOCKER_SCHEMA1))
def test_docker_schema_1_is_refused_with_what_to_do(registry: Registry, media_type: str) -> None:
    """By its type, and by its content where the type hides it."""
    tree = {"schemaVersion": 1, "name": "org/app", "tag": "v1", "fsLayers": [], "history": []}
    for stated in (media_type, "application/json", OCI_MANIFEST):
        _, answer = put(registry, "v1", tree, stated)
        error = answer.json()["errors"][0]
        assert (answer.status_code, error["code"]) == (400, "MANIFEST_INVALID")
        assert "docker 1.10 or newer" in error["message"]


@pytest.mark.parametrize(
    ("media_type", "more"),
    [
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            {"urls": ["https://elsewhere.example/layer"]},
        ),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", {}),
        (LAYER, {"urls": ["https://elsewhere.example/layer"]}),
    ],
)
def test_a_foreign_layer_need_not_be_here(
    registry: Registry, media_type: str, more: dict[str, list[str]]
) -> None:
    """Windows base layers stand at their vendor; a client fetches them from there."""
    registry.push_blob("org/app", b"config")
    image = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"config"),
        "layers": [descriptor(media_type, b"elsewhere", **more)],
    }
    raw, answer = put(registry, "v1", image, OCI_MANIFEST)
    assert answer.status_code == 201
    assert_kept(registry, "v1", raw, OCI_MANIFEST)


def test_an_index_that_lists_layers(registry: Registry) -> None:
    """buildkit's cache (``--cache-to type=registry``) is an index whose manifests are blobs."""
    config = "application/vnd.buildkit.cacheconfig.v0"
    registry.push_blob("org/app", b"layer")
    registry.push_blob("org/app", b"cache")
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(LAYER, b"layer"), descriptor(config, b"cache")],
    }
    raw, answer = put(registry, "cache", tree, OCI_INDEX)
    assert answer.status_code == 201
    assert_kept(registry, "cache", raw, OCI_INDEX)


def test_an_index_of_images_that_are_not_here(registry: Registry) -> None:
    """A sparse index: somebody mirrors one platform of many."""
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    tree["manifests"] = [descriptor(OCI_MANIFEST, b"not here")]
    raw, answer = put(registry, "sparse", tree, OCI_INDEX)
    assert answer.status_code == 201
    assert_kept(registry, "sparse", raw, OCI_INDEX)


@pytest.mark.parametrize(
    ("artifact_type", "config", "blob"),
    [
        (None, "application/vnd.cncf.helm.config.v1+json", "application/tar+gzip"),
        ("application/vnd.dev.cosign.simplesigning.v1+json", EMPTY, "application/octet-stream"),
        ("application/spdx+json", EMPTY, "application/spdx+json"),
        (None, "application/vnd.wasm.config.v0+json", "application/wasm"),
        (None, "application/vnd.example.Mixed-Case+yaml", "text/plain; charset=utf-8"),
    ],
)
def test_an_artifact_of_any_type(
    registry: Registry, artifact_type: str | None, config: str, blob: str
) -> None:
    """Helm charts, signatures, bills of materials, and what nobody has thought of."""
    registry.push_blob("org/app", b"{}")
    registry.push_blob("org/app", b"blob")
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, b"{}"),
        "layers": [descriptor(blob, b"blob")],
        "subject": descriptor(OCI_MANIFEST, b"comes later"),
        "annotations": {"org.example.key": "value"},
    }
    if artifact_type is not None:
        tree["artifactType"] = artifact_type
    raw, answer = put(registry, "v1", tree, OCI_MANIFEST)
    assert answer.status_code == 201
    assert answer.headers["oci-subject"] == digest_of(b"comes later")
    assert_kept(registry, "v1", raw, OCI_MANIFEST)
    listed = registry.pull.get(f"/v2/org/app/referrers/{digest_of(b'comes later')}").json()
    assert listed["manifests"] == [
        descriptor(
            OCI_MANIFEST,
            raw,
            artifactType=artifact_type or config,
            annotations={"org.example.key": "value"},
        )
    ]


@pytest.mark.parametrize(
    "media_type", ["application/\u2603+json", "x/y\r\nX-Odd: 1", "a" * 200_000]
)
def test_a_type_that_cannot_be_a_header_is_refused(registry: Registry, media_type: str) -> None:
    """It was taken, and could not be sent again."""
    _raw, answer = put(registry, "odd", {"schemaVersion": 2, "mediaType": media_type}, "")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"


def test_the_type_of_the_last_push_counts(registry: Registry) -> None:
    """A manifest that does not say its type is what it was pushed as at last."""
    config = descriptor(EMPTY, b"{}")
    registry.push_blob("org/app", b"{}")
    image = {"schemaVersion": 2, "config": config, "layers": []}
    for media_type in (DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_MANIFEST):
        raw, answer = put(registry, "typed", image, media_type)
        assert answer.status_code == 201
        assert_kept(registry, "typed", raw, media_type)


def test_a_page_is_not_run_by_a_browser(registry: Registry) -> None:
    """What browsers would show is shown without its scripts, in a host of its own."""
    answer = registry.put_manifest("org/app", "page", b"<script>alert(1)</script>", "text/html")
    assert answer.status_code == 201
    headers = registry.pull.get("/v2/org/app/manifests/page").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox"
