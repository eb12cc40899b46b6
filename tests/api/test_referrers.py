# SPDX-License-Identifier: Apache-2.0
"""Lists of referrers: from what was noted at the push, page by page where they are long."""

import json
from pathlib import Path

from buildset_registry.oci.descriptor import OCI_MANIFEST

from tests.api.configurations import on_disk, only
from tests.api.harness import Registry, digest_of

SUBJECT = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"subject"), "size": 7}
LIST = f"/v2/org/app/referrers/{SUBJECT['digest']}"
#: Bytes; oras reads no larger index, nor do we.
MOST = 4 * 1024 * 1024


def push(registry: Registry, number: int, kind: str, filler: int = 0) -> str:
    """Push an artifact that refers to the subject, and return its digest."""
    registry.push_blob("org/app", b"{}")
    config = {"mediaType": "application/x", "digest": digest_of(b"{}"), "size": 2}
    annotations = {"number": str(number), "filler": "x" * filler}
    tree = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    raw = json.dumps(
        {**tree, "artifactType": kind, "annotations": annotations, "subject": SUBJECT}
    ).encode()
    digest = digest_of(raw)
    assert registry.put_manifest("org/app", digest, raw).status_code == 201
    return str(digest)


def listed(registry: Registry, query: str = "") -> tuple[list[str], int]:
    """Return the digests of a list in their order, and the number of its pages."""
    where, pages, found = LIST + query, 0, []
    while where:
        answer = registry.pull.get(where)
        assert answer.status_code == 200
        assert len(answer.content) <= MOST
        found += [one["digest"] for one in answer.json()["manifests"]]
        where, pages = answer.links.get("next", {}).get("url", ""), pages + 1
    return found, pages


def notes(registry: Registry) -> list[Path]:
    return sorted(registry.storage.rglob("_referrers/**/descriptor"))


def test_a_long_list_comes_in_pages(registry: Registry) -> None:
    """Each is an index as large as clients read one; the filter holds on all of them."""
    kinds = {push(registry, one, f"a/{one % 2}", 200_000): one % 2 for one in range(24)}
    assert listed(registry) == (sorted(kinds), 2)
    even = sorted(digest for digest, kind in kinds.items() if not kind)
    assert listed(registry, "?artifactType=a/0") == (even, 1)
    assert listed(registry, f"?last={even[-1]}&artifactType=a/0") == ([], 1)


@only(on_disk, why="it looks into the files")
def test_a_list_is_answered_from_what_was_noted(registry: Registry) -> None:
    """A store of an older release has no notes: a manifest is read once, and noted."""
    digests = sorted(push(registry, one, "a/b") for one in range(3))
    before = [one.read_bytes() for one in notes(registry)]
    whole = registry.pull.get(LIST).content
    assert len(before) == 3
    for note in notes(registry):
        note.unlink()
    assert listed(registry)[0] == digests
    assert [one.read_bytes() for one in notes(registry)] == before
    assert registry.pull.get(LIST).content == whole


def test_annotations_that_would_fill_a_list_are_left_out(registry: Registry) -> None:
    """The artifact itself has them."""
    push(registry, 1, "a/b", 3_000_000)
    (entry,) = registry.pull.get(LIST).json()["manifests"]
    assert "annotations" not in entry
    assert entry["artifactType"] == "a/b"


def test_a_referrer_that_is_deleted_is_not_listed(registry: Registry) -> None:
    """Its note goes with it."""
    digest = push(registry, 1, "a/b")
    assert registry.push.delete(f"/v2/org/app/manifests/{digest}").status_code == 202
    assert listed(registry) == ([], 1)
    assert notes(registry) == []
