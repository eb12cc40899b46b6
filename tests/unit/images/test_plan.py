# SPDX-License-Identifier: Apache-2.0
"""Copies of push, pull and promote: between which registries, repositories and tags."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_images import plan
from buildset_images.artifacts import read_artifacts
from buildset_images.endpoints import written
from buildset_images.errors import ImagesError
from buildset_images.images import TaggedImage

from tests.unit.images.test_artifacts import BUILD, DIGEST, given

FACTS = {
    "host": "192.0.2.1",
    "port": 5000,
    "push_host": "192.0.2.1",
    "push_port": 5001,
    "username": "buildset",
    "password": "hidden",
    "cert": "PEM",
}
SECRET = {"host": "registry.example.com", "port": "5000", "username": "zuul", "password": "hidden"}
OWN, THERE = plan.buildset_registry(FACTS), plan.intermediate_registry(SECRET)
IMAGE, HUB = TaggedImage("quay.io/org/app", "v1"), TaggedImage("docker.io/org/app", "v1")
QUAY = {"registry": "quay.io", "login": {"username": "robot", "password": "hidden"}}


def ways(copies: list[plan.ImageCopy]) -> list[tuple[str, str]]:
    """Return from where to where."""
    return [(str(one.source), str(one.target)) for one in copies]


def public(image: TaggedImage, *given: dict[str, Any]) -> plan.ImageLocation:
    """Return where an image is published."""
    return plan.public_location(image, {}, plan.public_registries(given))


def test_a_push_goes_to_the_build_s_own_tag() -> None:
    """The buildset registry has Docker Hub's images without its host; the other has all names."""
    assert ways(plan.push_copies([IMAGE, HUB], BUILD, OWN, THERE)) == [
        (
            "192.0.2.1:5001/quay.io/org/app:v1",
            f"registry.example.com:5000/quay.io/org/app:{BUILD}_v1",
        ),
        ("192.0.2.1:5001/org/app:v1", f"registry.example.com:5000/docker.io/org/app:{BUILD}_v1"),
    ]


def test_a_push_with_too_long_a_tag_copies_nothing() -> None:
    """It is refused before anything is asked."""
    with pytest.raises(ImagesError, match="a registry takes 128"):
        plan.push_copies([TaggedImage("org/app", "a" * 96)], BUILD, OWN, THERE)


def test_a_push_without_a_build_is_refused() -> None:
    """Outside Zuul there is none."""
    with pytest.raises(ImagesError, match=r"zuul\.build is ''"):
        plan.push_copies([IMAGE], "", OWN, THERE)


def test_a_pull_goes_to_the_public_name() -> None:
    """From where the artifact says, by the digest that it has."""
    images, _notes = read_artifacts([given(metadata={**given()["metadata"], "digest": DIGEST})])
    (copy,) = plan.pull_copies(images, OWN, THERE)
    assert ways([copy]) == [
        (
            f"registry.example.com:5000/quay.io/org/app:{BUILD}_latest",
            "192.0.2.1:5001/quay.io/org/app:latest",
        )
    ]
    assert copy.source.digest == DIGEST
    assert f"build {BUILD} of job build-image, change 42,3" in copy.told


def test_the_secret_goes_to_no_other_registry() -> None:
    """An artifact can name any host; the login is for one."""
    images, _notes = read_artifacts([given(url=f"docker://evil.example.com/org/app:{BUILD}_v1")])
    with pytest.raises(ImagesError, match=r"is at evil\.example\.com:443, and intermediate") as no:
        plan.pull_copies(images, OWN, THERE)
    assert "change 42,3" in str(no.value)


@pytest.mark.parametrize("absent", [None, {}, {"port": 5000}])
def test_what_is_not_set_is_named(absent: dict[str, Any] | None) -> None:
    """Variables that a parent job or a secret should have given."""
    with pytest.raises(ImagesError, match="buildset_registry is not set"):
        plan.buildset_registry(absent)
    with pytest.raises(ImagesError, match="intermediate_registry is not set"):
        plan.intermediate_registry(absent)


def test_an_intermediate_registry_without_a_port_is_at_https() -> None:
    """A secret may leave it out."""
    registry = plan.intermediate_registry({"host": "registry.example.com"})
    assert written(registry.host) == "registry.example.com:443"


def test_an_image_is_promoted_to_its_own_registry() -> None:
    """With the credentials of that registry."""
    location = public(IMAGE, QUAY)
    assert str(location) == "quay.io:443/org/app:v1"
    assert location.registry.login.username == "robot"
    hub = public(HUB, {"registry": "docker.io", "login": {"username": "robot"}})
    assert str(hub) == "docker.io:443/org/app:v1"


def test_an_image_may_name_whose_credentials_it_wants() -> None:
    """zuul-jobs looks them up by the image's key ``registry``."""
    names = {IMAGE.repository: "our quay"}
    known = plan.public_registries([{**QUAY, "registry": "our quay"}])
    assert plan.public_location(IMAGE, names, known).registry.login.username == "robot"


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ({"registry": "docker.io", "login": {}}, "has none for quay.io"),
        (
            {"registry": "quay.io", "login": {"repository": "^quay.io/other/"}},
            "may not be promoted",
        ),
        ({"registry": "quay.io", "login": {"repository": "("}}, "is no regular expression"),
    ],
)
def test_what_the_credentials_do_not_allow_is_not_promoted(
    login: dict[str, Any], said: str
) -> None:
    """The operator's limits hold, as at zuul-jobs."""
    with pytest.raises(ImagesError, match=said):
        public(IMAGE, login)


def test_a_build_s_image_is_promoted_by_its_digest() -> None:
    """The tag of the build may have moved since it was tested."""
    image = TaggedImage("quay.io/org/app", "latest")
    ((_one,), _notes) = read_artifacts([given(metadata={**given()["metadata"], "digest": DIGEST})])
    (copy,) = plan.promote_copies([(image, _one)], THERE, {image: public(image, QUAY)})
    assert copy.source.digest == DIGEST
    assert str(copy.target) == "quay.io:443/org/app:latest"


def test_a_change_s_tag_becomes_the_tag() -> None:
    """In the repository where it was uploaded."""
    (copy,) = plan.retag_copies("change_42", {IMAGE: DIGEST}, {IMAGE: public(IMAGE, QUAY)})
    assert ways([copy]) == [("quay.io:443/org/app:change_42_v1", "quay.io:443/org/app:v1")]
    assert copy.source.digest == DIGEST
