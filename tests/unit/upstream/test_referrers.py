# SPDX-License-Identifier: Apache-2.0
"""Pages of a list of referrers, and the request for the next one."""

import json

import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from buildset_registry.oci.digest import Digest
from buildset_registry.upstream.referrers import ReferrersPage, first_page, next_page

SUBJECT = Digest.of(b"subject")
URL = "https://quay.io/v2/org/app"
LISTED = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"signature")), "size": 9}
INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [LISTED]}).encode()


@pytest.mark.parametrize(
    ("headers", "link"),
    [
        ({}, None),
        (
            {"Link": '</v2/org/app/referrers/x?page=2>; rel="next"'},
            "/v2/org/app/referrers/x?page=2",
        ),
        ({"Link": "<next>;rel=next"}, "next"),
        ({"Link": '<other>; rel="last"'}, None),
    ],
)
def test_a_page_holds_descriptors_and_a_link(headers: dict[str, str], link: str | None) -> None:
    """The link is that of the next page, and no other."""
    page = ReferrersPage.read(INDEX, headers, SUBJECT)
    assert page is not None
    assert [str(one.digest) for one in page.items] == [LISTED["digest"]]
    assert page.link == link


@pytest.mark.parametrize("raw", [b"", b"{}", b"<html>", b'{"mediaType": "text/plain"}'])
def test_an_answer_that_is_no_index_is_no_page(raw: bytes) -> None:
    """Some registries answer so to what they do not know."""
    assert ReferrersPage.read(raw, {}, SUBJECT) is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_subject_itself_is_no_list(algorithm: str) -> None:
    """A registry that takes the path for another one answers so; its children refer to nothing."""
    assert ReferrersPage.read(INDEX, {}, Digest.of(INDEX, algorithm)) is None


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("?page=2", f"referrers/{SUBJECT}?page=2"),
        ("/v2/org/app/referrers/y?page=2", "referrers/y?page=2"),
        (f"{URL}/referrers/y?page=2", "referrers/y?page=2"),
        (None, None),
        ("/v2/org/other/referrers/y", None),
        ("https://other.example/v2/org/app/referrers/y", None),
    ],
)
def test_the_next_page_is_one_of_the_same_repository(link: str | None, path: str | None) -> None:
    """A link that leads elsewhere is not followed."""
    following = next_page(f"{URL}/{first_page(SUBJECT).path}", ReferrersPage((), link, 2))
    assert (following and following.path) == path
