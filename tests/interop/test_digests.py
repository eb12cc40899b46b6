# SPDX-License-Identifier: Apache-2.0
"""Digests of every kind of image, in every registry that images may travel through.

From a buildset's registry to the one in question, and from there to the next buildset's. What came
of it is in ``build/reports/copies.txt``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.transfer.copy import CopyOptions, CopyResult, copy_images
from buildset_registry.transfer.ends import EndAccess
from buildset_registry.transfer.image_names import CopyRequest, parse_image
from buildset_registry.transfer.session import RegistryLogin

from tests.interop.content import DOCKER_IMAGE, DOCKER_LIST, IMAGE, INDEX, OCI, Pusher
from tests.interop.registries import PASSWORD, USER, Program, distribution, ours
from tests.roles.intermediate import NAME, Served, intermediate, serving

REPORT = Path(__file__).parents[2] / "build" / "reports" / "copies.txt"
APP = "quay.io/org/app"
ZSTD = bytes.fromhex("28b52ffd2000010000")
#: The registry that gives nothing back by its digest which does not say in itself what it is.
FORGETFUL = "zuul-registry"
UNTYPED = ("untyped image", "untyped index")
PROGRAMS: dict[str, Callable[[], Program]] = {
    "ours": ours,
    "distribution 2.8": lambda: distribution("distribution-2.8", "docker-registry"),
    "distribution 3": lambda: distribution("distribution-3", "registry"),
    FORGETFUL: lambda: intermediate(FORGETFUL),
}


class Kinds:
    """One image of each kind, in a registry that takes them all."""

    def __init__(self, client: Any) -> None:
        self._pusher = Pusher(client)
        self.digests: dict[str, str] = {}
        single: dict[str, Callable[[str], str]] = {
            "schema 2": lambda tag: self._image(tag, media_type=DOCKER_IMAGE),
            "OCI image": self._image,
            "untyped image": lambda tag: self._image(tag, say_type=False),
            "zstd": self._zstd,
        }
        for kind, make in single.items():
            self.digests[kind] = make(tag_of(kind))
        children = [self._image() for _one in range(2)]
        schema = [self._image(media_type=DOCKER_IMAGE) for _one in range(2)]
        self._index("index", INDEX, children)
        self._index("manifest list", DOCKER_LIST, schema)
        self._index("nested index", INDEX, [self.digests["index"], children[0]])
        listed = [self._pusher.content.descriptor(APP, one) for one in children]
        tree = {"schemaVersion": 2, "manifests": listed}
        tag = tag_of("untyped index")
        self.digests["untyped index"] = self._pusher.manifest(APP, tree, tag, media_type=INDEX)
        signature = tag_of("artifact with subject")
        subject = self.digests["OCI image"]
        self.digests["artifact with subject"] = self._pusher.artifact(APP, subject, signature)

    def _image(self, *tags: str, **more: Any) -> str:
        return self._pusher.image(APP, os.urandom(8).hex().encode(), *tags, **more)

    def _index(self, kind: str, media_type: str, children: list[str]) -> None:
        self.digests[kind] = self._pusher.index(APP, media_type, children, tag_of(kind))

    def _zstd(self, tag: str) -> str:
        pushed = {
            "config": (b'{"os": "linux", "architecture": "amd64"}', f"{OCI}.config.v1+json"),
            "layer": (ZSTD, f"{OCI}.layer.v1.tar+zstd"),
        }
        made = {
            name: {
                "mediaType": media_type,
                "digest": self._pusher.blob(APP, content),
                "size": len(content),
            }
            for name, (content, media_type) in pushed.items()
        }
        tree = {"schemaVersion": 2, "mediaType": IMAGE, "config": made["config"]}
        return self._pusher.manifest(APP, tree | {"layers": [made["layer"]]}, tag)


def tag_of(kind: str) -> str:
    """Return the tag of a kind."""
    return kind.lower().replace(" ", "-")


def copy(
    source: Served, destination: Served, named: dict[str, str], to: str = APP
) -> dict[str, CopyResult]:
    """Copy one image of each kind, with what refers to it; by a tag or a digest, to the tag."""
    places = [f"{NAME}:{source.port}/{APP}", f"{NAME}:{destination.port}/{to}"]
    access = EndAccess(source.cert, RegistryLogin(USER, PASSWORD), os.devnull, {NAME: "127.0.0.1"})
    wanted = [
        CopyRequest(parse_image(places[0] + one), parse_image(f"{places[1]}:{tag_of(kind)}"))
        for kind, one in named.items()
    ]
    options = CopyOptions(referrers=True, patience=0.01)
    report = copy_images(wanted, access, access, options)
    return dict(zip(named, report.images, strict=True))


def travel(made: Kinds, first: Served, there: Served, second: Served, to: str) -> dict[str, str]:
    """Tell of each kind that its digest was equal on the way and at its end, or what is wrong."""
    onward = copy(first, there, {kind: f":{tag_of(kind)}" for kind in made.digests})
    found = {kind: one.error for kind, one in onward.items() if one.error}
    by_digest = {kind: f"@{one}" for kind, one in made.digests.items() if kind not in found}
    back = copy(there, second, by_digest, to)
    for kind, one in back.items():
        on_the_way = onward[kind].digest, one.digest, second.digest(to, tag_of(kind))
        equal = set(on_the_way) == {made.digests[kind]}
        found[kind] = one.error or ("equal" if equal else f"other digests: {on_the_way}")
    return found


@pytest.mark.timeout(180)
def test_digests_are_equal_whatever_the_image_and_the_registry(tmp_path: Path) -> None:
    """Of each kind of image in each registry; what one of them cannot give back is told."""
    programs = [ours(), ours(), *(make() for make in PROGRAMS.values())]
    with serving(tmp_path, *programs) as (first, second, *others):
        made = Kinds(first.client)
        table: dict[str, dict[str, str]] = {}
        for name, there in zip(PROGRAMS, others, strict=True):
            to = f"after/{tag_of(name)}"
            table[name] = travel(made, first, there, second, to)
            answer = second.client.get(f"/v2/{to}/referrers/{made.digests['OCI image']}")
            listed = [one["digest"] for one in answer.json()["manifests"]]
            assert listed == [made.digests["artifact with subject"]], name
    write(made, table)
    refused = {kind: table[FORGETFUL].pop(kind) for kind in UNTYPED}
    assert {one for row in table.values() for one in row.values()} == {"equal"}
    for line in refused.values():
        assert line.startswith(f"{NAME}:")
        assert "answers 500" in line
        assert "\n" not in line


def write(made: Kinds, table: dict[str, dict[str, str]]) -> None:
    """Leave the table, and below it what was refused."""
    rows = [["", *table]]
    notes = []
    for kind in made.digests:
        cells = [table[name][kind] for name in table]
        notes += [
            f"{name}, {kind}: {cell}"
            for name, cell in zip(table, cells, strict=True)
            if cell != "equal"
        ]
        rows.append([kind, *(cell if cell == "equal" else "refused" for cell in cells)])
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    lines = ["".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join([*lines, "", *notes, ""]))
