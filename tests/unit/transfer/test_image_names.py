# SPDX-License-Identifier: Apache-2.0
"""Images are named as people are used to, and what names none is told in one line."""

from __future__ import annotations

import pytest
from buildset_registry.transfer.errors import TransferError
from buildset_registry.transfer.image_names import (
    LayoutImage,
    RegistryImage,
    parse_image,
    requests,
)

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "url", "repository", "reference"),
    [
        ("quay.io/org/app", "https://quay.io", "org/app", "latest"),
        ("docker://quay.io/org/app:1", "https://quay.io", "org/app", "1"),
        ("registry.example:5000/app:1", "https://registry.example:5000", "app", "1"),
        ("localhost/app", "https://localhost", "app", "latest"),
        ("[2001:db8::1]:5000/app:1", "https://[2001:db8::1]:5000", "app", "1"),
        ("[2001:DB8:0::1]/app", "https://[2001:db8::1]", "app", "latest"),
        ("http://127.0.0.1:5000/a/b:1", "http://127.0.0.1:5000", "a/b", "1"),
        ("docker://http://registry/a/b:1", "http://docker.io", "registry/a/b", "1"),
        ("http://registry.lan/b:1", "http://registry.lan", "b", "1"),
        (f"quay.io/app@{DIGEST}", "https://quay.io", "app", DIGEST),
        (f"quay.io/app:1@{DIGEST}", "https://quay.io", "app", DIGEST),
        ("alpine", "https://registry-1.docker.io", "library/alpine", "latest"),
        ("alpine:3", "https://registry-1.docker.io", "library/alpine", "3"),
        ("org/app:1", "https://registry-1.docker.io", "org/app", "1"),
        ("index.docker.io/org/app", "https://registry-1.docker.io", "org/app", "latest"),
        ("https://quay.io/org/app", "https://quay.io", "org/app", "latest"),
    ],
)
def test_a_name_says_registry_repository_and_reference(
    text: str, url: str, repository: str, reference: str
) -> None:
    """As docker, podman and skopeo read it."""
    image = parse_image(text)
    assert isinstance(image, RegistryImage)
    if not text.startswith("docker://http"):
        assert image.url == url
    assert (image.repository, str(image.reference)) == (repository, reference)


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("oci:images", LayoutImage("images")),
        ("oci:/srv/images:app", LayoutImage("/srv/images", "app")),
        ("oci:images:quay.io/org/app:1", LayoutImage("images", "quay.io/org/app:1")),
    ],
)
def test_a_folder_may_have_a_ref(text: str, image: LayoutImage) -> None:
    """What follows the first colon."""
    assert parse_image(text) == image
    assert str(image) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no image"),
        ("quay.io/", "names no image"),
        ("quay.io/Org/app", "names no image"),
        ("quay.io/app:", "not a tag"),
        ("quay.io/app:a b", "not a tag"),
        ("quay.io/app@sha256:12", "not a digest"),
        ("quay.io:99999/app", "1 to 65535"),
        ("user@host/app", "names no image"),
        ("quay.io/app:" + "x" * 129, "has 129 characters; the most is 128"),
        ("oci:", "names no folder"),
        ("oci:dir:bad ref", "is no ref"),
        ("quay.io/" + "a" * 300, "longer than 255"),
    ],
)
def test_what_names_no_image_is_told_in_one_line(text: str, told: str) -> None:
    """With what is wrong."""
    with pytest.raises(TransferError, match=told) as caught:
        parse_image(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("password", ["s3cret", "s3cr!t", "s3cret" * 99])
@pytest.mark.parametrize("scheme", ["https://", "http://", "docker://", ""])
def test_a_login_in_a_name_is_told_without_its_words(scheme: str, password: str) -> None:
    """It would be in the log of whoever runs the command."""
    with pytest.raises(TransferError, match="without a login") as caught:
        parse_image(f"{scheme}user:{password}@r.example/app:1")
    assert "s3cr" not in str(caught.value)
    assert parse_image(f"docker://app:1@{DIGEST}") == parse_image(f"app:1@{DIGEST}")


@pytest.mark.parametrize(
    ("sources", "destination", "expected"),
    [
        (["quay.io/a:1"], "r.example/b:2", ["r.example/b:2"]),
        (["quay.io/a:1"], "r.example/b", ["r.example/b:1"]),
        (["quay.io/a"], "r.example/b", ["r.example/b:latest"]),
        ([f"quay.io/a@{DIGEST}"], "r.example/b", ["r.example/b:latest"]),
        ([f"quay.io/a@{DIGEST}"], f"r.example/b@{DIGEST}", [f"r.example/b@{DIGEST}"]),
        (["quay.io/a:1", "quay.io/a:2"], "r.example/b", ["r.example/b:1", "r.example/b:2"]),
        (["quay.io/a:1", "org/b:1"], "r.example/", ["r.example/a:1", "r.example/org/b:1"]),
        (["quay.io/a:1"], "r.example/m/", ["r.example/m/a:1"]),
        ([f"quay.io/a@{DIGEST}"], "r.example/", [f"r.example/a@{DIGEST}"]),
        (["quay.io/a:1"], "oci:d", ["oci:d:1"]),
        (["quay.io/a:1"], "oci:d:x", ["oci:d:x"]),
        (["oci:d"], "oci:e", ["oci:e"]),
        (["oci:d:docker.io/org/a:3"], "r.example/b", ["r.example/b:3"]),
        (["oci:d"], "r.example/b", ["r.example/b:latest"]),
    ],
)
def test_a_source_goes_where_the_destination_says(
    sources: list[str], destination: str, expected: list[str]
) -> None:
    """Its tag is kept where the destination has none."""
    assert [str(one.destination) for one in requests(sources, destination)] == expected


@pytest.mark.parametrize(
    ("sources", "destination", "told"),
    [
        (["quay.io/a:1", "quay.io/b:2"], "r.example/c:1", "leave out the tag"),
        (["quay.io/a:1", "quay.io/b:1"], "r.example/c", "would both become"),
        (["oci:d"], "r.example/m/", "has no repository"),
        (["oci:d:" + "x" * 129], "r.example/b", "the most is 128"),
    ],
)
def test_a_destination_that_cannot_be_meant_is_refused(
    sources: list[str], destination: str, told: str
) -> None:
    """Before anything is asked of a registry."""
    with pytest.raises(TransferError, match=told):
        requests(sources, destination)
