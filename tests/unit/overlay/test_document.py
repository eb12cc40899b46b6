# SPDX-License-Identifier: Apache-2.0
"""What is handed over of images of other builds: read, added up, and refused in a line."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from buildset_registry.errors import ConfigError
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.overlay.document import FILE, Overlay
from buildset_registry.overlay.table import OverlaidTags

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
SECRET = "a-token-that-nobody-may-see"
IMAGE = {"digest": DIGEST, "repository": "quay.io/org/app", "build": "8c15", "change": "4711,3"}


def handed(images: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    usual = {
        "registry": {"host": "intermediate.example.com:5000", "cert": ""},
        "token": SECRET,
        "expires": 1796000000,
        "images": images if images is not None else {"quay.io/org/app:latest": IMAGE},
    }
    return {**usual, **changes}


def text(*several: object, version: object = 1) -> str:
    return json.dumps({"version": version, "handed": list(several)})


def test_what_is_read_is_written_again() -> None:
    """Names in their normal form; of a name that is there twice, the last one."""
    first = Overlay.parse(text(handed({"app:v1": IMAGE, "quay.io/org/app:v1": IMAGE})), "first")
    later = Overlay.parse(
        text(handed({"docker.io/library/app:v1": {**IMAGE, "digest": OTHER}}, token="later")),
        "later",
    )
    both = first.with_more(later)
    assert {str(name): str(one.digest) for name, one in both.images.items()} == {
        "docker.io/library/app:v1": OTHER,
        "quay.io/org/app:v1": DIGEST,
    }
    assert Overlay.parse(both.dump(), "again") == both
    assert SECRET not in repr(both)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no JSON object"),
        (text(version=2), "is not of version 1"),
        (text(version=True), "is not of version 1"),
        (json.dumps({"version": 1, "handed": {}}), "handed is no list"),
        (text("x"), "handed[0] is no JSON object"),
        (text(handed(registry=None)), "handed[0].registry is no JSON object"),
        (text(handed(registry={"host": "a b"})), "handed[0].registry.host: not the name of"),
        (text(handed(registry={"host": 3})), "handed[0].registry.host is no text"),
        (text(handed(registry={"host": "x.example", "cert": SECRET})), "cert is no certificate"),
        (text(handed(token=f"{SECRET}\n")), "handed[0].token is no text"),
        (text(handed(token="")), "handed[0].token is none"),
        (text(handed(token=f"{SECRET} {SECRET}")), "handed[0].token is none"),
        (text(handed(expires="soon")), "handed[0].expires is no number"),
        (text(handed(expires=1e300)), "handed[0].expires is no time"),
        (text(handed({"quay.io/org/app": IMAGE})), "images['quay.io/org/app']: it has no tag"),
        (text(handed({"App:v1": IMAGE})), "images['App:v1']: not a repository name"),
        (text(handed({"app:v1": {**IMAGE, "digest": "x"}})), "images['app:v1']: "),
        (text(handed({"app:v1": {**IMAGE, "repository": "../x"}})), "not a repository name"),
        (text(handed({"app:v1": {**IMAGE, "build": "a\nb"}})), "build is no text"),
        (text(handed({"app:v1": 1})), "images['app:v1'] is no JSON object"),
        ('{"version": 1, "handed": ' + "[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_wrong_is_a_line_without_a_secret(given: str, words: str) -> None:
    """Where it is, and not what stands there."""
    with pytest.raises(ConfigError) as caught:
        Overlay.parse(given, "standard input")
    line = str(caught.value)
    assert words in line
    assert line.startswith("the overlay standard input")
    assert "\n" not in line
    assert SECRET not in line


def test_an_overlay_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets upstream's image instead; it is read again until that succeeds."""
    table, app = OverlaidTags(tmp_path), RepositoryName("app")
    (tmp_path / FILE).write_text(text(handed({"app:v1": IMAGE})))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", Mock(side_effect=OSError(errno.EMFILE, "too many")))
        for _look in range(2):
            with pytest.raises(OSError, match="too many"):
                table.find(app, Tag("v1"))
    assert table.find(app, Tag("v1")) is not None


def test_tags_and_repositories_are_listed(tmp_path: Path) -> None:
    """By the names under which a registry stores them; new ones at once."""
    table = OverlaidTags(tmp_path)
    app = RepositoryName("library/app")
    assert (table.repositories(), table.tags(app), table.find(app, Tag("v1"))) == ([], [], None)
    images = {"app:v2": IMAGE, "app:v1": IMAGE, "host:5000/org/app:v1": IMAGE}
    (tmp_path / FILE).write_text(text(handed(images)))
    assert table.repositories() == ["host__5000/org/app", "library/app"]
    assert table.tags(RepositoryName("app")) == ["v1", "v2"]
    found = table.find(RepositoryName("app"), Tag("v1"))
    assert found is not None
    assert found.fixed_by == "the overlay (build 8c15 of change 4711,3)"
    (tmp_path / FILE).unlink()
    assert table.repositories() == []
