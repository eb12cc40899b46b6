# SPDX-License-Identifier: Apache-2.0
"""The command that hands images of other builds to a registry, and what it says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.overlay.document import FILE

from tests.instance.conftest import Desk
from tests.ports import free_port

SECRET = "a-token-that-nobody-may-see"
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A registry that runs."""
    made = Desk(tmp_path / "root", (free_port(), free_port()))
    made.up()
    try:
        yield made
    finally:
        made.run("down", "--purge")


def document(port: int, **changes: Any) -> str:
    """Return what is handed over of an image of a registry on a port."""
    image = {"digest": DIGEST, "repository": "org/app", "build": "8c15", "change": "4711,3"}
    handed = {
        "registry": {"host": f"127.0.0.1:{port}", "cert": ""},
        "token": SECRET,
        "expires": 1796000000,
        "images": {"quay.io/org/app:v1": image},
    }
    return json.dumps({"version": 1, "handed": [{**handed, **changes}]})


def test_the_command_on_a_registry_that_runs(desk: Desk) -> None:
    """It prints what is overlaid without a secret, and hands over nothing that is not to be had."""
    folder = desk.root / "overlay"
    assert desk.run("overlay").stdout == "0 images of other builds are overlaid\n"
    port = free_port()  # nobody listens there
    refused = desk.run("overlay", "-", stdin=document(port))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        "buildset-registry: quay.io/org/app:v1, made by build 8c15 of change 4711,3: upstream "
        f"127.0.0.1:{port} "
    )
    assert refused.stderr.count("\n") == 1
    assert not (folder / FILE).exists()
    (folder / FILE).write_text(document(port))
    printed = desk.run("overlay")
    assert printed.stdout == (
        f"quay.io/org/app:v1 is {DIGEST} of build 8c15 of change 4711,3\n"
        "1 images of other builds are overlaid\n"
    )
    (listed,) = json.loads(desk.run("overlay", "--json").stdout)["images"]
    assert listed["registry"] == f"127.0.0.1:{port}"
    for wrong, words in (
        ("{", "the overlay standard input is not JSON"),
        (document(port, expires="x"), "handed[0].expires is no number"),
    ):
        assert words in desk.refused("overlay", "-", stdin=wrong)
    assert "cannot read /no/such: No such file" in desk.refused("overlay", "/no/such")
    shown = [refused.stderr, printed.stdout, json.dumps(listed)]
    shown += [path.read_text() for path in (desk.root / "log").iterdir()]
    assert SECRET not in "".join(shown)
    assert desk.up()["changes"] == []


def test_registries_are_named_before_any_image_is(desk: Desk) -> None:
    """So that clients may hand over what is there; a name that is none is told."""
    named = {"host": "intermediate.example.com:5000", "cert": "-----BEGIN CERTIFICATE-----"}
    text = json.dumps({"version": 1, "registries": [named], "handed": []})
    for _twice in range(2):
        done = desk.run("overlay", "-", stdin=text)
        assert (done.returncode, done.stdout) == (0, "0 images of other builds are overlaid\n")
    folder = desk.root / "overlay"
    assert json.loads((folder / FILE).read_text())["registries"] == [named]
    (authority,) = folder.glob("ca-*.pem")
    assert authority.read_text() == named["cert"]
    wrong = json.dumps({"version": 1, "registries": [{"host": "a b"}], "handed": []})
    assert "standard input: registries[0].host: " in desk.refused("overlay", "-", stdin=wrong)


def test_a_registry_without_an_overlay(desk: Desk) -> None:
    """What is to be set is told."""
    config = desk.root / "config.yaml"
    text = config.read_text()
    assert "overlay:\n  folder: overlay\n" in text
    config.write_text(text.replace("overlay:\n  folder: overlay\n", "overlay: null\n"))
    assert "has no overlay; set overlay.folder" in desk.refused("overlay")
