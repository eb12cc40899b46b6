# SPDX-License-Identifier: Apache-2.0
"""Images arrive as they were: whatever they are made of, whatever the registries can and cannot."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.transfer.layout import REF_NAME, LayoutFolder

from tests.unit.transfer.conftest import Copy
from tests.unit.transfer.fake_registry import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    FakeRegistry,
    Handler,
    descriptor,
    digest_of,
    status,
)

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def index(source: FakeRegistry, tag: str = "v1") -> bytes:
    """Have an index of two platforms with a layer in common."""
    children = {
        f"linux/{name}": source.add_image("app", layers=(b"base", name.encode()), architecture=name)
        for name in ("amd64", "arm64")
    }
    return source.add_index("app", tag, children)


def schema_2(source: FakeRegistry) -> bytes:
    """Have an image as docker pushes it."""
    return source.add_image("app", "v1", mediaType=DOCKER_MANIFEST)


def nested_index(source: FakeRegistry) -> bytes:
    """Have an index that lists an index."""
    inner = index(source, "inner")
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(inner, INDEX)]}
    return source.add_manifest("app", tree, "v1")


def zstd(source: FakeRegistry) -> bytes:
    """Have an image whose layer is compressed by zstd."""
    layer = source.add_blob("app", b"\x28\xb5\x2f\xfdzstd")
    config = source.add_blob("app", b"{}")
    tree = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(layer, f"{LAYER}+zstd")],
    }
    return source.add_manifest("app", tree, "v1")


def without_media_type(source: FakeRegistry) -> bytes:
    """Have an image whose manifest leaves it to the header what it is."""
    config = source.add_blob("app", b"{}")
    tree = {"schemaVersion": 2, "config": descriptor(config, CONFIG), "layers": []}
    return source.add_manifest("app", tree, "v1", MANIFEST)


def artifact(source: FakeRegistry) -> bytes:
    """Have an artifact that refers to what is not there."""
    subject = descriptor(b"elsewhere", MANIFEST)
    return source.add_image("app", "v1", subject=subject, artifactType="application/example")


KINDS = {
    "index": index,
    "schema 2": schema_2,
    "nested index": nested_index,
    "zstd": zstd,
    "without a media type": without_media_type,
    "artifact with a subject": artifact,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_keeps_its_digest(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, kind: str
) -> None:
    """And so does everything that it lists; its type is the one that it had."""
    raw = KINDS[kind](source)
    report = copy(source.image("app:v1"), destination.image("org/other:v2"))
    assert not report.failed
    assert report.images[0].digest == digest_of(raw)
    assert destination.manifests["org/other"]["v2"] == source.manifests["app"]["v1"]
    copied = {key: one for key, one in source.manifests["app"].items() if ":" in key}
    assert destination.manifests["org/other"].items() >= copied.items()
    assert destination.blobs["org/other"] == source.blobs["app"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_keeps_its_digest_in_a_folder(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path, kind: str
) -> None:
    """There and back again."""
    raw = KINDS[kind](source)
    assert not copy(source.image("app:v1"), f"oci:{tmp_path}/images").failed
    report = copy(f"oci:{tmp_path}/images:v1", destination.image("app"))
    assert not report.failed
    assert report.images[0].digest == digest_of(raw)
    assert destination.manifests["app"]["v1"][1] == raw


def test_a_second_copy_sends_nothing(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """What is there by digest costs a HEAD; the tag is not even put again."""
    index(source)
    first = copy(source.image("app:v1"), destination.image("app:v1")).images[0]
    assert first.moved == sum(map(len, source.blobs["app"].values()))
    destination.requests.clear()
    second = copy(source.image("app:v1"), destination.image("app:v1")).images[0]
    assert (second.moved, second.skipped) == (0, first.moved)
    assert {method for method, _path in destination.requests} == {"HEAD"}


def test_the_tag_comes_last_and_children_first(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Whoever sees the tag can pull all of the image."""
    raw = nested_index(source)
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    put = [path.rpartition("/")[2] for path in destination.asked("PUT", "manifests")]
    assert put[-1] == "v1"
    assert digest_of(raw) not in put
    inner = json.loads(raw)["manifests"][0]["digest"]
    assert put.index(inner) == len(put) - 2


def test_a_registry_moves_nothing_that_it_can_mount(source: FakeRegistry, copy: Copy) -> None:
    """Within one registry no bytes are sent."""
    index(source)
    report = copy(source.image("app:v1"), source.image("org/promoted:v1")).images[0]
    assert (report.error, report.moved) == ("", 0)
    assert report.mounted == sum(map(len, source.blobs["app"].values()))
    assert not source.asked("GET", "/blobs/" + digest_of(b"base"))


@pytest.mark.parametrize("code", [401, 403, 404, 405])
def test_a_mount_that_is_refused_becomes_an_upload(
    source: FakeRegistry, copy: Copy, code: int
) -> None:
    """As harbor, quay and others answer where the other repository is not one to mount from."""
    index(source)
    source.fail("POST", "mount=", status(code), times=99)
    report = copy(source.image("app:v1"), source.image("other:v1")).images[0]
    assert (report.error, report.mounted) == ("", 0)
    assert source.blobs["other"] == source.blobs["app"]


def test_a_mount_that_is_not_done_goes_on_as_the_upload_that_it_began(
    source: FakeRegistry, copy: Copy
) -> None:
    """The 202 has its address; no second one is begun."""
    source.mounts = False
    source.add_image("app", "v1")
    assert not copy(source.image("app:v1"), source.image("other:v1")).failed
    assert len(source.uploads) == 0
    assert len(source.asked("POST")) == 2


def test_several_images_share_what_they_have_in_common(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """It is sent once, and mounted where the destination is another repository."""
    source.add_image("a", "1", layers=(b"x" * 1000, b"a"))
    source.add_image("b", "1", layers=(b"x" * 1000, b"b"))
    report = copy(source.image("a:1"), source.image("b:1"), destination.image("mirror/"))
    assert not report.failed
    assert len(destination.asked("POST", "mount=")) == 2
    assert sum(one.moved for one in report.images) < 1100
    assert set(destination.manifests["mirror/a"]) & {"1"}
    assert set(destination.manifests["mirror/b"]) & {"1"}


def test_images_that_list_each_other_are_put_once_and_from_below(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """A registry that writes in place would be read in the middle of a second time."""
    raw = index(source)
    listed = [descriptor(raw, INDEX)]
    source.add_manifest(
        "app", {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}, "nested"
    )
    tags = ["nested", "v1", "nested"]
    assert not copy(*(source.image(f"app:{tag}") for tag in tags), destination.image("app")).failed
    put = [path.rpartition("/")[2] for path in destination.asked("PUT", "manifests")]
    assert len(set(put[:-3])) == len(put[:-3]) == len(json.loads(raw)["manifests"])
    assert put[-3:] == ["v1", "nested", "nested"]


def test_several_names_of_one_image_come_into_one_folder(
    source: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """At the same time, and each blob once."""
    raw = index(source)
    names = [f"tag-{number}" for number in range(20)]
    for name in names:
        source.manifests["app"][name] = source.manifests["app"]["v1"]
    report = copy(*(source.image(f"app:{name}") for name in names), f"oci:{tmp_path}/o")
    assert not report.failed
    listed = json.loads((tmp_path / "o/index.json").read_text())["manifests"]
    assert {one["digest"] for one in listed} == {digest_of(raw)}
    found = [one["annotations"]["org.opencontainers.image.ref.name"] for one in listed]
    assert sorted(found) == sorted(names)
    assert len(source.asked("GET", f"blobs/{digest_of(b'base')}")) == 1


def test_one_image_that_fails_does_not_stop_the_others(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Its result says why."""
    source.add_image("app", "good")
    report = copy(source.image("app:good"), source.image("app:bad"), destination.image("app"))
    assert [bool(one.error) for one in report.images] == [False, True]
    assert "has no bad; push the image first" in report.images[1].error
    assert "good" in destination.manifests["app"]


def test_a_dry_run_counts_a_blob_once_for_each_repository(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """As the copy does."""
    for tag in ("v1", "v2"):
        source.add_image("app", tag, layers=(b"common", tag.encode()))
    destination.mounts = False
    for target in ("app", "other"):
        words = (source.image("app:v1"), source.image("app:v2"), destination.image(target))
        expected = copy(*words, dry_run=True).to_json()["moved"]
        assert copy(*words).to_json()["moved"] == expected


def test_what_one_source_does_not_give_is_had_of_another(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """Images of several registries that have a layer in common go to one place."""
    for registry, tag in ((source, "v1"), (destination, "v2")):
        registry.add_image("app", tag)
    source.fail("GET", f"blobs/{digest_of(b'layer')}", status(404), times=9)
    words = (source.image("app:v1"), destination.image("app:v2"))
    assert not copy(*words, f"oci:{tmp_path}/o").failed


def test_a_dry_run_writes_nothing(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """It tells how much would be sent."""
    source.add_image("app", "v1", layers=(b"x" * 500,))
    report = copy(source.image("app:v1"), destination.image("app:v1"), dry_run=True)
    assert report.images[0].moved > 500
    assert {method for method, _path in destination.requests} == {"HEAD"}
    copy(source.image("app:v1"), f"oci:{tmp_path}/new", dry_run=True)
    assert not (tmp_path / "new").exists()


def test_a_platform_is_an_image_of_its_own(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """Its digest is that in the index; nothing of the other one is fetched."""
    raw = index(source)
    report = copy(source.image("app:v1"), destination.image("app:v1"), platforms=("linux/aarch64",))
    one = report.images[0]
    assert (one.error, one.digest) == ("", json.loads(raw)["manifests"][1]["digest"])
    assert one.platforms == ["linux/arm64"]
    assert digest_of(b"amd64") not in destination.blobs["app"]


def test_a_platform_of_an_image_with_attestations_is_that_image(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """BuildKit lists one of each image beside it, unless it is told not to."""
    image = source.add_image("app")
    attestation = source.add_image("app", layers=(b"statement",))
    other = source.add_image("app", layers=(b"other",), architecture="arm64")
    listed = [
        descriptor(image, MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        descriptor(other, MANIFEST, platform={"os": "linux", "architecture": "arm64"}),
        descriptor(
            attestation,
            MANIFEST,
            platform={"os": "unknown", "architecture": "unknown"},
            annotations={"vnd.docker.reference.digest": digest_of(image)},
        ),
    ]
    tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
    source.add_manifest("app", tree, "v1")
    words = (source.image("app:v1"), destination.image("app:v1"))
    report = copy(*words, platforms=("linux/amd64",))
    assert [(one.error, one.digest) for one in report.images] == [("", digest_of(image))]
    assert set(destination.manifests["app"]) == {"v1", digest_of(image)}
    destination.blobs["app"][digest_of(other)] = b""  # as in a registry that takes sparse indexes
    assert not copy(*words, platforms=("linux/amd64",), sparse=True).failed
    assert digest_of(attestation) in destination.manifests["app"]


def test_a_platform_that_is_not_there_is_told_with_those_that_are(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """One line."""
    index(source)
    (one,) = copy(
        source.image("app:v1"), destination.image("app:v1"), platforms=("linux/s390x",)
    ).failed
    assert one.error == "the image has no linux/s390x; there is: linux/amd64, linux/arm64"


def test_a_digest_beside_the_tag_of_a_destination_has_to_be_the_image_s(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """It is no ornament; the tag stays what it was."""
    raw, other = source.add_image("app", "v1"), digest_of(b"another")
    (one,) = copy(source.image("app:v1"), destination.image(f"app:v1@{other}")).failed
    assert f"the image is {digest_of(raw)} and cannot be stored as {other}" in one.error
    assert not destination.manifests["app"]
    named = destination.image(f"app:v1@{digest_of(raw)}")
    assert not copy(source.image("app:v1"), named).failed
    assert "v1" in destination.manifests["app"]


def test_a_sparse_index_has_to_be_said(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """It keeps the index's digest and leaves an image out."""
    raw = index(source)
    both = ("linux/amd64", "linux/arm64")
    (one,) = copy(source.image("app:v1"), destination.image("app:v1"), platforms=both).failed
    assert "--sparse" in one.error
    words = (source.image("app:v1"), f"oci:{tmp_path}/sparse")
    report = copy(*words, platforms=("linux/arm64",), sparse=True)
    assert report.images[0].digest == digest_of(raw)
    assert report.images[0].platforms == ["linux/arm64"]
    held = {path.name for path in (tmp_path / "sparse/blobs/sha256").iterdir()}
    assert digest_of(b"arm64").removeprefix("sha256:") in held
    assert digest_of(b"amd64").removeprefix("sha256:") not in held


def referring(source: FakeRegistry, subject: bytes, what: str, **more: Any) -> bytes:
    """Have something that refers to a manifest."""
    return source.add_image(
        "app",
        layers=(what.encode(),),
        subject=descriptor(subject, MANIFEST),
        artifactType=f"application/{what}",
        **more,
    )


def test_all_that_refers_to_an_image_is_listed_where_each_has_a_tag_of_its_own(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """They are put side by side, and listed in one place by a registry without the API."""
    destination.referrers_api = False
    image = source.add_image("app", "v1")
    names = [f"signature{number}" for number in range(6)]
    put = [referring(source, image, name, tag=name) for name in names]
    together = threading.Barrier(4)

    def meet(_handler: Handler) -> bool:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        return False

    tag = digest_of(image).replace(":", "-")
    destination.fail("GET", f"manifests/{tag}", meet, times=4)
    words = [source.image(f"app:{name}") for name in ("v1", *names)]
    assert not copy(*words, destination.image("app")).failed
    listed = json.loads(destination.manifests["app"][tag][1])["manifests"]
    assert {one["digest"] for one in listed} == {digest_of(one) for one in put}


def test_a_name_that_a_folder_has_twice_is_what_was_copied_last(
    source: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """crane appends to what is there; whoever reads the name finds the last one."""
    raws = [source.add_image("app", tag, layers=(tag.encode(),)) for tag in ("v1", "v2")]
    for tag in ("v1", "v2"):
        assert not copy(source.image(f"app:{tag}"), f"oci:{tmp_path}/o:{tag}").failed
    file = tmp_path / "o/index.json"
    tree = json.loads(file.read_text())
    for one in tree["manifests"]:
        one["annotations"] = {REF_NAME: "both"}
    file.write_text(json.dumps(tree))
    for tag, raw in zip(("v1", "v2"), raws, strict=True):
        assert not copy(source.image(f"app:{tag}"), f"oci:{tmp_path}/o:both").failed
        found = LayoutFolder(f"{tmp_path}/o").manifest("both")
        assert found is not None
        assert found.raw == raw


@pytest.mark.parametrize("named", [True, False])
def test_what_refers_to_an_image_is_listed_though_it_is_there(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, named: bool
) -> None:
    """A copy before this one failed at the list, which a registry without the API is sent."""
    destination.referrers_api = False
    image = source.add_image("app", "v1")
    put = referring(source, image, "signature", tag="signature" if named else "")
    words = (source.image("app:signature" if named else "app:v1"), destination.image("app"))
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    tag = digest_of(image).replace(":", "-")
    destination.fail("PUT", f"manifests/{tag}", status(403))
    assert copy(*words, referrers=not named).failed
    assert digest_of(put) in destination.manifests["app"]
    for _again in range(2):
        assert not copy(*words, referrers=not named).failed
        listed = json.loads(destination.manifests["app"][tag][1])["manifests"]
        assert [one["digest"] for one in listed] == [digest_of(put)]


def test_a_list_is_looked_at_once_however_long_it_is(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """By a copy that finds everything there."""
    image = source.add_image("app", "v1")
    for number in range(5):
        referring(source, image, f"signature{number}")
    words = (source.image("app:v1"), destination.image("app:v1"))
    assert not copy(*words, referrers=True).failed
    destination.requests.clear()
    assert not copy(*words, referrers=True).failed
    assert len(destination.asked("GET", "referrers")) == 1
    assert not destination.asked("PUT")


@pytest.mark.parametrize("by_api", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_what_refers_to_an_image_comes_along(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, by_api: bool, listed: bool
) -> None:
    """To the index, to its images, and to what refers to those, in either way of listing it."""
    source.referrers_api, destination.referrers_api = by_api, listed
    raw = index(source)
    child = source.manifests["app"][json.loads(raw)["manifests"][0]["digest"]][1]
    signature, sbom = referring(source, raw, "signature"), referring(source, child, "sbom")
    attested = referring(source, sbom, "attestation")
    if not by_api:
        for subject, one in ((raw, signature), (child, sbom), (sbom, attested)):
            tree = {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [descriptor(one, MANIFEST)],
            }
            source.add_manifest("app", tree, digest_of(subject).replace(":", "-"))
    report = copy(source.image("app:v1"), destination.image("app:v1"), referrers=True)
    assert not report.failed
    held = destination.manifests["app"]
    assert {digest_of(one) for one in (signature, sbom, attested)} <= set(held)
    assert (digest_of(raw).replace(":", "-") in held) is not listed
    put = [path.rpartition("/")[2] for path in destination.asked("PUT", "manifests")]
    assert put[-1] == "v1"


@pytest.mark.parametrize("tag_first", [False, True])
def test_what_an_index_lists_and_refers_to_its_image_comes_with_the_images(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tag_first: bool
) -> None:
    """BuildKit's attestations do both; a registry may refuse an index without all that it lists."""
    image = source.add_image("app")
    attestation = referring(source, image, "attestation")
    raw = source.add_index("app", "v1", {"linux/amd64": image, "unknown/unknown": attestation})
    if tag_first:  # as to a registry that takes such an index, by a token for it
        destination.blobs["app"][digest_of(attestation)] = b""
    options = {"referrers": True, "tag_first": tag_first}
    report = copy(source.image("app:v1"), destination.image("app:v1"), **options)
    assert [one.error for one in report.images] == [""]
    assert {digest_of(one) for one in (raw, image, attestation)} < set(destination.manifests["app"])
    put = [path.rpartition("/")[2] for path in destination.asked("PUT", "manifests")]
    assert (put.index(digest_of(attestation)) > put.index("v1")) is tag_first
    assert put.count(digest_of(attestation)) == 1


@pytest.mark.parametrize("there", [False, True])
def test_with_the_tag_first_what_refers_to_an_image_comes_after_it(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, there: bool
) -> None:
    """What the image lists still comes before it; of a copy that was killed the rest is brought."""
    raw = index(source)
    signature = referring(source, raw, "signature")
    tag = f"{digest_of(raw).replace(':', '-')}.sig"
    source.add_image("app", tag, layers=(b"cosign",))
    if there:
        assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    options = {"referrers": True, "tag_first": True}
    assert not copy(source.image("app:v1"), destination.image("app:v1"), **options).failed
    put = [path.rpartition("/")[2] for path in destination.asked("PUT", "manifests")]
    assert put.count("v1") == 1
    after = put.index("v1") + 1
    assert set(put[after:]) == {digest_of(signature), tag}
    children = {one["digest"] for one in json.loads(raw)["manifests"]}
    assert set(put[: after - 1]) == children


def test_what_cosign_keeps_by_tags_comes_along(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """Through a folder, too."""
    raw = index(source)
    tags = [f"{digest_of(raw).replace(':', '-')}{end}" for end in (".sig", ".att", ".sbom")]
    for tag in tags:
        source.add_image("app", tag, layers=(tag.encode(),))
    assert not copy(source.image("app:v1"), f"oci:{tmp_path}/o", referrers=True).failed
    assert not copy(f"oci:{tmp_path}/o:v1", destination.image("app"), referrers=True).failed
    assert {"v1", *tags} <= set(destination.manifests["app"])


def test_referrers_that_refer_to_each_other_come_to_an_end(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """A list may say what no digest could: two that are each other's referrers."""
    raw = source.add_image("app", "v1")
    one = source.add_image("app", layers=(b"one",))
    source.referrers_api = False
    for subject, listed in ((raw, one), (one, raw)):
        tree = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(listed, MANIFEST)]}
        source.add_manifest("app", tree, digest_of(subject).replace(":", "-"))
    report = copy(source.image("app:v1"), destination.image("app:v1"), referrers=True)
    assert not report.failed
    assert digest_of(one) in destination.manifests["app"]


def test_without_being_asked_for_referrers_stay(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy
) -> None:
    """They are other people's word."""
    referring(source, source.add_image("app", "v1"), "signature")
    assert not copy(source.image("app:v1"), destination.image("app:v1")).failed
    assert not source.asked("GET", "referrers")
    assert digest_of(b"signature") not in destination.blobs["app"]


def test_what_a_folder_lists_beside_images_is_in_nobodys_way(
    source: FakeRegistry, destination: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    """An index may list content of any type; only what a registry says of itself is doubted."""
    source.add_image("app", "v1")
    assert not copy(source.image("app:v1"), f"oci:{tmp_path}/o:v1").failed
    strange = b"<strange/>"
    (tmp_path / "o/blobs/sha256" / digest_of(strange)[7:]).write_bytes(strange)
    path = tmp_path / "o/index.json"
    index = json.loads(path.read_bytes())
    entry = {"mediaType": "application/xml", "digest": digest_of(strange), "size": len(strange)}
    path.write_text(json.dumps(index | {"manifests": [*index["manifests"], entry]}))
    words = (f"oci:{tmp_path}/o:v1", destination.image("app"))
    assert not copy(*words, referrers=True).failed


def test_a_damaged_entry_without_a_name_is_in_the_way_of_no_copy_to_a_folder(
    source: FakeRegistry, copy: Copy, tmp_path: Path
) -> None:
    source.add_image("app", "v1")
    assert not copy(source.image("app:v1"), f"oci:{tmp_path}/o:v1").failed
    path = tmp_path / "o/index.json"
    index = json.loads(path.read_bytes())
    path.write_text(json.dumps(index | {"manifests": [*index["manifests"], {"size": 1}]}))
    assert LayoutFolder(f"{tmp_path}/o").find_manifest(None) is None
