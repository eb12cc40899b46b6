# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is checked, what is kept, what they link to."""

import json
from typing import Any

import pytest
from buildset_registry.errors import ManifestInvalid, ManifestTooLarge
from buildset_registry.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTETS,
)
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.manifest import MAX_MANIFEST, Manifest, stored_media_type


def descriptor(
    content: bytes = b"x", media_type: str = "application/x", **more: Any
) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "digest": str(Digest.of(content)),
        "size": len(content),
        **more,
    }


def dump(**tree: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **tree}).encode()


def test_an_image_links_its_config_and_its_layers() -> None:
    """Foreign layers need not be here, so they are no links."""
    raw = dump(
        mediaType=OCI_MANIFEST,
        config=descriptor(b"config", "application/vnd.oci.image.config.v1+json"),
        layers=[
            descriptor(b"layer"),
            descriptor(b"f1", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            descriptor(b"f2", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
            descriptor(b"f3", urls=["https://example.com/layer"]),
        ],
        annotations={"a": "b"},
    )
    manifest = Manifest.parse(raw, OCI_MANIFEST)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"config"), Digest.of(b"layer")]
    assert manifest.artifact_type == "application/vnd.oci.image.config.v1+json"
    assert manifest.descriptor.to_json() == {
        "mediaType": OCI_MANIFEST,
        "digest": str(Digest.of(raw)),
        "size": len(raw),
        "artifactType": "application/vnd.oci.image.config.v1+json",
        "annotations": {"a": "b"},
    }


def test_an_index_links_manifests_and_an_artifact_its_subject() -> None:
    """Links are told by kind, for pushes and for the collection of garbage."""
    raw = dump(manifests=[descriptor(b"m")], subject=descriptor(b"s"), artifactType="text/x")
    manifest = Manifest.parse(raw, OCI_INDEX, "sha512")
    assert [one.digest for one in manifest.manifests] == [Digest.of(b"m")]
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"s")
    assert (manifest.artifact_type, manifest.digest.algorithm) == ("text/x", "sha512")


@pytest.mark.parametrize(
    ("raw", "content_type", "media_type"),
    [
        (dump(mediaType=DOCKER_MANIFEST, config=descriptor()), "", DOCKER_MANIFEST),
        (dump(mediaType=DOCKER_LIST, manifests=[]), "application/json", DOCKER_LIST),
        (dump(config=descriptor()), "", OCI_MANIFEST),
        (dump(manifests=[]), OCTETS, OCI_INDEX),
        (dump(config=descriptor()), f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST),
        (dump(odd=1), "application/vnd.custom+json", "application/vnd.custom+json"),
        (b"not json", "application/vnd.custom", "application/vnd.custom"),
        (b"[1]", "application/vnd.custom", "application/vnd.custom"),
        (dump(odd=1), "", OCTETS),
        (dump(layers=3), "application/vnd.custom+json", "application/vnd.custom+json"),
    ],
)
def test_the_media_type_is_the_contents_own_or_the_headers(
    raw: bytes, content_type: str, media_type: str
) -> None:
    """Unknown types are kept as they are."""
    assert Manifest.parse(raw, content_type).media_type == media_type


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (dump(mediaType=OCI_MANIFEST, config=descriptor()), OCI_INDEX),
        (dump(), OCI_MANIFEST),
        (dump(config=descriptor(), layers={}), OCI_MANIFEST),
        (dump(config=descriptor(), layers=[1]), OCI_MANIFEST),
        (dump(config={"digest": "x"}), OCI_MANIFEST),
        (dump(config=descriptor() | {"size": -1}), OCI_MANIFEST),
        (dump(config=descriptor() | {"digest": "sha256:1"}), OCI_MANIFEST),
        (b"not json", OCI_MANIFEST),
        (b"not json", ""),
        (b"[" * 100_000, ""),
        (b'{"schemaVersion": 1}', ""),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b'{"schemaVersion": 1, "config": {}}', OCI_MANIFEST),
        (dump(mediaType="application/\u2603+json"), ""),
        (dump(mediaType="application/x\r\nX-Injected: yes"), ""),
        (dump(mediaType="a\0b"), ""),
        (dump(mediaType="a" * 200_000), ""),
        (dump(mediaType="x"), "application/json"),
        (dump(), "text/\xe9"),
        (dump(config=descriptor(), mediaType=1), OCI_MANIFEST),
        (dump(config=descriptor(), schemaVersion="2"), OCI_MANIFEST),
        (dump(config=descriptor(), artifactType=1), OCI_MANIFEST),
        (dump(config=descriptor()).decode().encode("utf-16"), OCI_MANIFEST),
        (b"\xef\xbb\xbf" + dump(config=descriptor()), OCI_MANIFEST),
        (dump(config=descriptor(), annotations={"a": "\xe9"}).replace(b"\\u00e9", b"\xe9"), ""),
        (dump(config=descriptor(), annotations={"a": float("nan")}), OCI_MANIFEST),
        (dump(config=descriptor(), odd=float("-inf")), OCI_MANIFEST),
        (dump(config=descriptor(), odd=1)[:-1] + b', "odd": 2}', OCI_MANIFEST),
        (dump(config=descriptor(), annotations={"a": 1}), OCI_MANIFEST),
        (dump(config=descriptor(), annotations={"a": {"b": "c"}}), OCI_MANIFEST),
        (dump(config=descriptor(), annotations=["a"]), OCI_MANIFEST),
        (dump(manifests=[descriptor(annotations={"a": True})]), OCI_INDEX),
        (dump(config=descriptor() | {"size": 2**63}), OCI_MANIFEST),
        (b'{"config": {"size": ' + b"9" * 5000 + b"}}", OCI_MANIFEST),
    ],
)
def test_a_broken_manifest_of_a_known_type_is_refused(raw: bytes, content_type: str) -> None:
    """What clients would trip over later is refused at the push."""
    with pytest.raises(ManifestInvalid):
        Manifest.parse(raw, content_type)


def test_a_manifest_has_at_most_4_mib() -> None:
    """One byte more is refused with a status of its own."""
    assert Manifest.parse(b" " * MAX_MANIFEST, "application/x").media_type == "application/x"
    with pytest.raises(ManifestTooLarge) as caught:
        Manifest.parse(b" " * (MAX_MANIFEST + 1), "application/x")
    assert caught.value.status == 413


def test_the_stored_media_type_is_what_the_bytes_tell() -> None:
    """Content that tells nothing is plain octets."""
    assert stored_media_type(dump(manifests=[])) == OCI_INDEX
    assert stored_media_type(b"not json") == OCTETS


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_an_image_and_an_index_at_once_is_refused(
    media_type: str, declared: bool, strict: bool
) -> None:
    """Which of them it is depended on who reads it (CVE-2021-41190); Go reads any case."""
    kind = {"mediaType": media_type} if declared else {}
    both: dict[str, Any] = {"config": descriptor(), "layers": [], "manifests": []}
    odd: list[dict[str, Any]] = [
        {"Manifests": []},
        {"LAYERS": []},
        {"fsLayers": []},
        {"layer\u017f": []},
    ]
    for more in (both, *odd):
        index = media_type in (OCI_INDEX, DOCKER_LIST)
        own: dict[str, Any] = {"manifests": []} if index else {"config": descriptor()}
        with pytest.raises(ManifestInvalid):
            Manifest.parse(dump(**kind, **{**own, **more}), media_type, strict=strict)


def test_what_an_upstream_has_may_lack_what_clients_do_without() -> None:
    """Descriptors without a media type (moby#22378) and odd annotations, which are left out."""
    config = {"digest": str(Digest.of(b"x")), "size": 1}
    raw = dump(config=config, layers=[config], annotations={"a": 1, "b": "c"})
    manifest = Manifest.parse(raw, OCI_MANIFEST, strict=False)
    assert [blob.media_type for blob in manifest.blobs] == [OCTETS, OCTETS]
    assert manifest.annotations == {"b": "c"}
    with pytest.raises(ManifestInvalid, match="config needs digest and mediaType"):
        Manifest.parse(dump(config=config), OCI_MANIFEST)


def test_a_type_of_ones_own_may_have_any_schema_version() -> None:
    """Docker schema 1 says what it is, or says nothing."""
    raw = dump(mediaType="application/vnd.own+json", schemaVersion=1)
    assert Manifest.parse(raw).media_type == "application/vnd.own+json"


@pytest.mark.parametrize(
    "raw",
    [
        dump(config=descriptor(), layers=[descriptor(b"m")], manifests=[descriptor(b"m")]),
        dump(config=descriptor(), layers=[descriptor(b"m"), 1, {"digest": "x"}]),
        dump(config=descriptor(), layers=[descriptor(b"m") | {"size": None}]),
        dump(config=descriptor() | {"size": -1}, layers=[descriptor(b"m")]),
        dump(config=descriptor(), layers=[descriptor(b"m")], annotations={"a": float("nan")}),
        dump(config=descriptor(), layers=[descriptor(b"m")]).decode().encode("utf-16"),
    ],
)
def test_no_link_is_lost_of_what_older_rules_took_in(raw: bytes) -> None:
    """Collection would take the content away; a list of referrers shows what all can read."""
    manifest = Manifest.stored(raw, OCI_MANIFEST)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"x"), Digest.of(b"m")]
    json.dumps(manifest.descriptor.to_json(), allow_nan=False)
    assert Manifest.stored(b"no JSON", OCI_MANIFEST).blobs == ()
