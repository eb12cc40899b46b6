# SPDX-License-Identifier: Apache-2.0
"""Images as jobs name them: which are wanted, by what names, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_images.endpoints import (
    login_of,
    parse_host,
    push_endpoint,
    registry_host,
    written,
)
from buildset_images.errors import ImagesError
from buildset_images.images import TaggedImage, check_length, wanted_images

BUILD = "0123456789abcdef0123456789abcdef"


def names(images: Any) -> list[str]:
    """Return what is wanted, as text."""
    return [str(image) for image in wanted_images(images, "container_images")]


def test_each_tag_of_each_image_is_wanted_once() -> None:
    """In their order; an image without tags is latest, as zuul-jobs has it."""
    images = [
        {"repository": "quay.io/org/app", "tags": ["v1", "latest", "v1"]},
        {"repository": "org/other", "context": "other", "registry": "docker.io"},
        {"repository": "quay.io/org/app", "tags": ["latest"]},
        {"repository": "org/numbered", "tags": [1.5, 2]},
    ]
    wanted = ["quay.io/org/app:v1", "quay.io/org/app:latest", "org/other:latest"]
    assert names(images) == [*wanted, "org/numbered:1.5", "org/numbered:2"]


def test_no_tags_are_no_images() -> None:
    """An empty list means what it says."""
    assert names([{"repository": "org/app", "tags": []}]) == []
    assert names([]) == []


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("quay.io/org/app", "give a list of images"),
        ({"repository": "org/app"}, "give a list of images"),
        ([{"context": "app"}], "has no repository"),
        (["quay.io/org/app"], "has no repository"),
        ([{"repository": "quay.io/org/App"}], "write it in lower case"),
        ([{"repository": "quay.io/org/app:v1"}], "without a tag"),
        ([{"repository": "https://quay.io/org/app"}], "is no name of a repository"),
        ([{"repository": "org/" + "a" * 255}], "is no name of a repository"),
        ([{"repository": "org/app", "tags": "latest"}], "give a list of tags"),
        ([{"repository": "org/app", "tags": ["a b"]}], "a tag has up to 128 letters"),
        ([{"repository": "org/app", "tags": [""]}], "a tag of org/app is ''"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(images: Any, said: str) -> None:
    """It names the variable and what to write instead."""
    with pytest.raises(ImagesError, match=said) as refused:
        names(images)
    assert "container_images" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("repository", "stored", "registry", "path"),
    [
        ("docker.io/org/app", "org/app", "docker.io:443", "org/app"),
        ("docker.io/app", "app", "docker.io:443", "library/app"),
        ("org/app", "org/app", "docker.io:443", "org/app"),
        ("app", "app", "docker.io:443", "library/app"),
        ("quay.io/org/app", "quay.io/org/app", "quay.io:443", "org/app"),
        ("localhost/app", "localhost/app", "localhost:443", "app"),
        ("docker.iox/org/app", "docker.iox/org/app", "docker.iox:443", "org/app"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c"),
        ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a", "[2001:db8::1]:5000", "a"),
    ],
)
def test_an_image_has_its_names(repository: str, stored: str, registry: str, path: str) -> None:
    """One in a buildset registry, which has Docker Hub's without a host, and one in its own."""
    (image,) = wanted_images([{"repository": repository}], "container_images")
    assert image.stored == stored
    host, there = image.public
    assert (written(host), there) == (registry, path)


def test_a_tag_that_is_too_long_with_its_build_is_refused() -> None:
    """33 characters of 128 are the build's."""
    check_length(BUILD, TaggedImage("org/app", "a" * 95))
    with pytest.raises(ImagesError, match=r"has 129 characters.*a tag of 95 or fewer") as refused:
        check_length(BUILD, TaggedImage("org/app", "a" * 96))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("registry.example.com", "REGISTRY.example.com:443"),
        ("[2001:db8::1]:5000", "[2001:0db8:0:0:0:0:0:1]:5000"),
        ("[2001:DB8::1]", "[2001:db8::1]:443"),
    ],
)
def test_two_ways_of_writing_name_one_registry(one: str, other: str) -> None:
    """An artifact may be written by another hand than the secret."""
    assert parse_host(one, "url") == parse_host(other, "url")


@pytest.mark.parametrize("host", ["2001:db8::1", "[2001:db8::1]"])
def test_an_ipv6_host_is_written_in_brackets(host: str) -> None:
    """As zuul-jobs has it in URLs, whether or not the variable has them."""
    assert written(registry_host(host, "5000", "intermediate_registry")) == "[2001:db8::1]:5000"


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("", 5000, "is no registry; give host or host:port"),
        ("https://registry", 5000, "is no registry"),
        ("registry/path", 5000, "is no registry"),
        ("user:secret@registry", 5000, "is no registry"),
        ("registry", 0, "is no registry"),
        ("registry", None, "give a TCP port"),
        ("registry", "70000", "is no registry"),
    ],
)
def test_what_is_no_endpoint_is_refused(host: str, port: Any, said: str) -> None:
    """The line names the variable."""
    with pytest.raises(ImagesError, match=f"intermediate_registry: .*{said}"):
        registry_host(host, port, "intermediate_registry")


def test_images_are_read_where_they_were_pushed() -> None:
    """The push endpoint never answers with upstream's; zuul-jobs' facts know one endpoint."""
    one = {"host": "192.0.2.1", "port": 5000, "username": "zuul"}
    two = {**one, "push_host": "192.0.2.2", "push_port": 5001}
    assert written(push_endpoint(one)) == "192.0.2.1:5000"
    assert written(push_endpoint(two)) == "192.0.2.2:5001"


def test_a_login_does_not_show_its_password() -> None:
    """Nor the certificate, which is long."""
    login = login_of({"host": "h", "username": "zuul", "password": "hidden", "cert": None})
    assert (login.username, login.password, login.cert) == ("zuul", "hidden", "")
    assert "hidden" not in repr(login)


@pytest.mark.parametrize("address", ["2001:db8::1", "[2001:db8::1]"])
def test_an_address_is_one_with_and_without_brackets(address: str) -> None:
    """As a host is, beside which it stands; sockets take it without."""
    assert login_of({"host": "h", "address": address}).address == "2001:db8::1"
