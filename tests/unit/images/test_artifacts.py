# SPDX-License-Identifier: Apache-2.0
"""Artifacts in both directions: ours have zuul-jobs' keys and more, theirs are taken as ours."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from buildset_images.artifacts import (
    ImageArtifact,
    make_artifact,
    not_returned,
    read_artifacts,
)
from buildset_images.endpoints import parse_host, registry_host, written
from buildset_images.errors import ImagesError
from buildset_images.images import TaggedImage

BUILD, LATER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
DIGEST = "sha256:" + "a" * 64
IMAGE = TaggedImage("quay.io/org/app", "latest")
TOLD = {
    "digest": DIGEST,
    "media_type": "application/vnd.oci.image.index.v1+json",
    "platforms": ["linux/amd64", "linux/arm64"],
}


def theirs(host: str, port: int, build: str, repository: str, tag: str) -> dict[str, Any]:
    """Return what the role push-to-intermediate-registry of zuul-jobs returns."""
    wrapped = f"[{host}]" if ":" in host else host
    return {
        "name": f"{repository}:{tag}",
        "url": f"docker://{wrapped}:{port}/{repository}:{build}_{tag}",
        "metadata": {"type": "container_image", "repository": repository, "tag": tag},
    }


def given(build: str = BUILD, **more: Any) -> dict[str, Any]:
    """Return an artifact as Zuul hands it to a job, with who made it."""
    made = theirs("registry.example.com", 5000, build, "quay.io/org/app", "latest")
    by = {"project": "org/app", "job": "build-image", "change": "42", "patchset": "3"}
    return {**made, **by, **more}


def read(*artifacts: dict[str, Any]) -> list[ImageArtifact]:
    """Return the images of artifacts."""
    return read_artifacts(list(artifacts))[0]


@pytest.mark.parametrize("host", ["registry.example.com", "192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("repository", ["quay.io/org/app", "docker.io/org/app", "org/app"])
def test_ours_has_every_key_of_theirs(host: str, repository: str) -> None:
    """Key by key and value by value; three keys of the metadata are more."""
    image = TaggedImage(repository, "v1")
    ours = make_artifact(image, registry_host(host, 5000, "secret"), BUILD, TOLD)
    expected = theirs(host, 5000, BUILD, repository, "v1")
    assert ours.keys() == expected.keys()
    assert {key: ours["metadata"].pop(key) for key in TOLD} == TOLD
    assert ours == expected


@pytest.mark.parametrize("host", ["registry.example.com", "192.0.2.1", "2001:db8::1"])
def test_ours_and_theirs_are_read_alike(host: str) -> None:
    """Theirs has no digest; all else is the same."""
    registry = registry_host(host, 5000, "secret")
    (ours,) = read(make_artifact(IMAGE, registry, BUILD, TOLD))
    (other,) = read(theirs(host, 5000, BUILD, IMAGE.repository, IMAGE.tag))
    assert (ours.digest, other.digest) == (DIGEST, "")
    for one in (ours, other):
        assert (one.image, one.registry, one.repository) == (IMAGE, registry, IMAGE.repository)
        assert (one.reference, one.build) == (f"{BUILD}_latest", BUILD)


def test_who_made_it_is_told() -> None:
    """A message says which build of which change it is about."""
    (image,) = read(given())
    assert image.told == (
        f"quay.io/org/app:latest, built by build {BUILD} of job build-image, change 42,3, "
        "project org/app"
    )
    (image,) = read(given(change=None, ref="refs/heads/main"))
    assert "refs/heads/main" in image.told


def test_other_artifacts_are_skipped_without_a_word() -> None:
    """Logs, documents, artifacts without metadata and what is no artifact at all."""
    others: list[Any] = [
        {"name": "logs", "url": "logs/"},
        {"name": "docs", "url": "docs/", "metadata": {"type": "docs_archive"}},
        {"name": "odd", "url": "x", "metadata": "container_image"},
        "text",
    ]
    assert read_artifacts([*others, given()])[0] == read(given())
    assert read_artifacts(others) == ([], [])


def test_of_two_the_later_one_is_taken() -> None:
    """Zuul lists the change that is furthest ahead first; the note says what is left out."""
    images, notes = read_artifacts([given(), given(LATER, change="43"), given(LATER, change="43")])
    assert [image.build for image in images] == [LATER]
    (note,) = notes
    assert BUILD in note.partition("is not taken")[0]
    assert LATER in note.partition("is not taken")[2]


HUB = ("docker.io/org/app", "org/app")


@pytest.mark.parametrize("names", [HUB, HUB[::-1]])
def test_an_image_of_docker_hub_is_one_by_either_name(names: tuple[str, str]) -> None:
    """Both become one tag of the buildset's registry, where they would be written side by side."""
    host, port = "registry.example.com", 5000
    pairs = zip((BUILD, LATER), names, strict=True)
    both = [theirs(host, port, one, name, "v1") for one, name in pairs]
    images, notes = read_artifacts(both)
    assert [image.build for image in images] == [LATER]
    assert len(notes) == 1


def test_the_last_of_each_is_taken_in_any_order() -> None:
    """Serial copies would make the last one win; 50 orders of 3 builds of 4 images."""
    pool = [
        given(f"{build}" * 32, metadata={**given()["metadata"], "tag": tag})
        for build in "abc"
        for tag in ("v1", "v2", "v3", "latest")
    ]
    pool = [{**one, "url": one["url"].replace("latest", one["metadata"]["tag"])} for one in pool]
    for seed in range(50):
        pool.sort(key=lambda one: hashlib.sha256(f"{seed} {one['url']}".encode()).digest())
        serial = {one["metadata"]["tag"]: one["url"] for one in pool}
        taken = {
            one.image.tag: f"docker://{written(one.registry)}/{one.repository}:{one.reference}"
            for one in read(*pool)
        }
        assert taken == serial


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": None}, "which names no image"),
        ({"url": "https://registry.example.com/org/app"}, "which names no image"),
        ({"url": "docker://registry.example.com"}, "which names no image"),
        ({"url": "docker://user:pass@registry/org/app:v1"}, "is no registry"),
        ({"url": "docker://registry:99999/org/app:v1"}, "is no registry"),
        ({"url": "docker://registry/../app?ns=quay.io:v1"}, "no name of a repository"),
        ({"url": "docker://registry/app:../blobs/v1?x"}, "a tag has up to 128 letters"),
        ({"metadata": {"type": "container_image", "tag": "v1"}}, "has no metadata.repository"),
        ({"metadata": {"type": "container_image", "repository": "a"}}, "has no metadata.tag"),
        ({"metadata": {**given()["metadata"], "repository": "A"}}, "no name of a repository"),
        ({"metadata": {**given()["metadata"], "digest": "md5:1"}}, "has the digest 'md5:1'"),
    ],
)
def test_an_artifact_that_lacks_something_is_named(change: dict[str, Any], said: str) -> None:
    """In one line, with the job and the change that it is of."""
    with pytest.raises(ImagesError, match=said) as refused:
        read(given(**change))
    line = str(refused.value)
    assert "job build-image, change 42,3, project org/app" in line
    assert "\n" not in line
    assert "pass@" not in line


def test_an_artifact_by_digest_is_taken() -> None:
    """A reference may have a tag and a digest, or the latter alone."""
    url = given()["url"]
    (both,) = read(given(url=f"{url}@{DIGEST}"))
    assert (both.reference, both.digest) == (f"{BUILD}_latest", DIGEST)
    (alone,) = read(given(url=f"{url.rpartition(':')[0]}@{DIGEST}"))
    assert (alone.reference, alone.digest) == (DIGEST, DIGEST)


def test_what_was_returned_is_not_returned_again() -> None:
    """Zuul appends: a build that pushed early and again would have each twice."""
    registry = parse_host("registry.example.com", "secret")
    artifact = make_artifact(IMAGE, registry, BUILD, TOLD)
    other = make_artifact(TaggedImage("org/b", "v1"), registry, BUILD, {})
    assert not_returned([artifact, other], [{"name": "logs"}, artifact]) == ([other], [])
    assert other["metadata"] == {"type": "container_image", "repository": "org/b", "tag": "v1"}


def test_what_has_changed_since_it_was_returned_is_told() -> None:
    """Others may have pulled what the tag was, and Zuul goes on naming it."""
    registry = parse_host("registry.example.com", "secret")
    before = make_artifact(IMAGE, registry, BUILD, TOLD)
    now = make_artifact(IMAGE, registry, BUILD, {"digest": "sha256:" + "b" * 64})
    fresh, (line,) = not_returned([now], [before])
    assert fresh == []
    assert line.startswith(f"{IMAGE} was returned as {DIGEST} and is sha256:bbb")
