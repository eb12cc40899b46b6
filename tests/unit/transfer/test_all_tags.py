# SPDX-License-Identifier: Apache-2.0
"""Every image of a repository is named, whatever its registry lists; else one line says why not."""

from __future__ import annotations

import json

import pytest
from buildset_registry.transfer.ends import EndAccess, tagged_images
from buildset_registry.transfer.errors import TransferError

from tests.unit.transfer.fake_registry import FakeRegistry, Handler

DIGEST = "sha256:" + "a" * 64


def page(registry: FakeRegistry, path: str, tags: object, link: str = "") -> None:
    """Have a page of a list of tags."""
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}

    def answer(handler: Handler) -> bool:
        return handler.answer(200, headers, json.dumps({"tags": tags}).encode())

    registry.fail("GET", path, answer, times=100)


def test_pages_are_followed_and_digests_among_tags_are_digests(source: FakeRegistry) -> None:
    """zuul-registry lists what was pushed by its digest; a page that comes again is the last."""
    page(source, r"/app/tags/list$", ["v1", DIGEST], "/v2/app/tags/list?last=v1")
    page(source, r"/app/tags/list\?last=v1$", ["v2"], "/v2/app/tags/list?last=v2")
    page(source, r"/app/tags/list\?last=v2$", ["v2"], "/v2/app/tags/list?last=v2")
    page(source, r"/none/tags/list$", None)
    app, none, gone = (source.image(name) for name in ("app", "none", "gone"))
    assert tagged_images([app, none, gone], EndAccess()) == (
        [f"{app}:v1", f"{app}@{DIGEST}", f"{app}:v2"],
        [none, gone],
    )


@pytest.mark.parametrize(
    ("name", "tags", "said"),
    [
        ("app", [], "no image has a tag there; check the name"),
        ("app", ["not a tag"], "lists 'not a tag', which is no tag"),
        ("app", ["sha256:short"], "lists 'sha256:short', which is no tag"),
        ("app", [1], "answers with what is no list of tags"),
        ("app", "v1", "answers with what is no list of tags"),
        ("app:v1", ["v1"], "is one image; with --all-tags name HOST[:PORT]/REPOSITORY"),
    ],
)
def test_a_wrong_list_or_name_is_one_line(
    source: FakeRegistry, name: str, tags: object, said: str
) -> None:
    page(source, "/app/tags/list$", tags)
    with pytest.raises(TransferError) as told:
        tagged_images([source.image(name)], EndAccess())
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_is_no_repository() -> None:
    with pytest.raises(TransferError, match="oci:images is one image"):
        tagged_images(["oci:images"], EndAccess())
