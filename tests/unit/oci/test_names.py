# SPDX-License-Identifier: Apache-2.0
"""Names, tags and references."""

import pytest
from buildset_registry.errors import BlobUploadUnknown, DigestInvalid, NameInvalid, TagInvalid
from buildset_registry.oci.digest import Digest
from buildset_registry.oci.names import RepositoryName, Tag, UploadId, parse_reference
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("path", "namespace", "stored", "host", "remote"),
    [
        ("app", None, "app", "docker.io", "library/app"),
        ("library/app", None, "library/app", "docker.io", "library/app"),
        ("org/app", None, "org/app", "docker.io", "org/app"),
        ("docker.io/org/app", None, "org/app", "docker.io", "org/app"),
        ("docker.io/library/app", None, "library/app", "docker.io", "library/app"),
        ("docker.io/app", None, "app", "docker.io", "library/app"),
        ("index.docker.io/org/app", None, "org/app", "docker.io", "org/app"),
        ("quay.io/org/app", None, "quay.io/org/app", "quay.io", "org/app"),
        ("localhost/app", None, "localhost/app", "localhost", "app"),
        ("org/app", "docker.io", "org/app", "docker.io", "org/app"),
        ("org/app", "registry-1.docker.io", "org/app", "docker.io", "org/app"),
        ("org/app", "quay.io", "quay.io/org/app", "quay.io", "org/app"),
        ("org/app", "QUAY.io", "quay.io/org/app", "quay.io", "org/app"),
        ("org/app", "localhost:5000", "localhost__5000/org/app", "localhost:5000", "org/app"),
        ("app", "host.example:8443", "host.example__8443/app", "host.example:8443", "app"),
        ("app", "host.example:443", "host.example/app", "host.example", "app"),
        ("quay.io/org/app", "quay.io", "quay.io/org/app", "quay.io", "org/app"),
        ("quay.io", "quay.io", "quay.io/quay.io", "quay.io", "quay.io"),
        ("docker.io/org/app", "docker.io", "org/app", "docker.io", "org/app"),
        ("docker.io/app", "quay.io", "quay.io/docker.io/app", "quay.io", "docker.io/app"),
    ],
)
def test_a_name_says_which_registry_it_belongs_to(
    path: str, namespace: str | None, stored: str, host: str, remote: str
) -> None:
    """Docker Hub's names carry no host, others do, and ``?ns=`` always decides."""
    name = RepositoryName.resolve(path, namespace)
    assert (name, name.host, name.remote) == (stored, host, remote)


def test_an_official_image_has_two_names_and_the_asked_one_comes_first() -> None:
    """``app`` and ``library/app`` are one image; each is looked up under its own name first."""
    assert RepositoryName.parse("app").names == ("app", "library/app")
    assert RepositoryName.parse("library/app").names == ("library/app", "app")
    assert RepositoryName.parse("org/app").names == ("org/app",)
    assert RepositoryName.parse("library/a/b").names == ("library/a/b",)
    assert RepositoryName.parse("app").canonical == "library/app"
    assert RepositoryName.parse("quay.io/app").canonical == "quay.io/app"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "/",
        "A",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "a b",
        "-a",
        "a_",
        "a:b",
        "é",
        "a\0b",
        "a" * 256,
    ],
)
def test_a_bad_name_is_refused(bad: str) -> None:
    """Nothing outside the grammar passes, so no path can hide in a name."""
    with pytest.raises(NameInvalid):
        RepositoryName.parse(bad)


@given(st.text(max_size=300))
def test_no_accepted_name_leaves_its_folder(text: str) -> None:
    """Whatever the input, a name that passes has no dot-folder and no empty part."""
    try:
        name = RepositoryName.parse(text)
    except NameInvalid:
        return
    assert all(part not in ("", ".", "..") and not part.startswith("_") for part in name.split("/"))


@pytest.mark.parametrize("bad", ["", ".x", "-x", "a" * 129, "a/b", "a b", "a\n"])
def test_a_bad_tag_is_refused(bad: str) -> None:
    """Tags follow the grammar to the letter."""
    with pytest.raises(TagInvalid):
        Tag.parse(bad)


def test_a_reference_with_a_colon_is_a_digest() -> None:
    """Only digests have a colon, so a malformed one is not taken for a tag."""
    digest = Digest.of(b"content")
    assert parse_reference(str(digest)) == digest
    assert parse_reference("v1.0_x-y") == "v1.0_x-y"
    with pytest.raises(DigestInvalid):
        parse_reference("sha256:abc")


def test_digests_are_of_the_registered_algorithms_only() -> None:
    """md5 and upper case are refused; sha512 is accepted."""
    assert Digest.parse(f"sha512:{'a' * 128}").algorithm == "sha512"
    assert str(Digest.of(b"", "sha512")).startswith("sha512:cf83e135")
    for bad in (f"md5:{'a' * 32}", f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", "sha256", ""):
        with pytest.raises(DigestInvalid):
            Digest.parse(bad)


def test_an_upload_identifier_is_a_uuid() -> None:
    """Anything else is an unknown upload, not a path."""
    text = "0f0e0d0c-0b0a-0908-0706-050403020100"
    assert UploadId.parse(text) == text
    for bad in ("", "../x", text.upper(), f"{text}0"):
        with pytest.raises(BlobUploadUnknown):
            UploadId.parse(bad)
