# SPDX-License-Identifier: Apache-2.0
"""``verify`` beside a running registry."""

import json

from tests.instance.conftest import Desk
from tests.instance.test_gc import digest_of, push_image


def test_a_sound_registry_is_said_to_be(desk: Desk) -> None:
    """In one line, with what was looked at."""
    push_image(desk, desk.up()["facts"])
    done = desk.run("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert "1 manifests and 1 tags in 1 repositories: nothing broken" in done.stdout


def test_damage_is_named_and_fails(desk: Desk) -> None:
    """Also where no registry runs."""
    push_image(desk, desk.up()["facts"])
    hexadecimal = digest_of(b"{}")[7:]
    blobs = desk.root / "data/docker/registry/v2/blobs/sha256"
    (blobs / hexadecimal[:2] / hexadecimal / "data").write_bytes(b"[]")
    for down in (False, True):
        if down:
            desk.run("down")
        done = desk.run("verify", "--json")
        assert done.returncode == 1
        (problem,) = json.loads(done.stdout)["problems"]
        assert (problem["kind"], problem["name"]) == ("blob", digest_of(b"{}"))
    assert f"blob {digest_of(b'{}')}: its content is " in desk.run("verify").stdout


def test_repair_needs_the_registry_to_be_stopped_and_leaves_nothing_broken(desk: Desk) -> None:
    """A link is made again, content that is damaged removed with what needs it."""
    push_image(desk, desk.up()["facts"])
    refused = desk.run("verify", "--repair")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "in use by another buildset-registry" in refused.stderr
    desk.run("down")
    hexadecimal = digest_of(b"{}")[7:]
    storage = desk.root / "data/docker/registry/v2"
    (link,) = storage.glob(f"repositories/**/_layers/sha256/{hexadecimal}/link")
    link.write_bytes(b"\xff" * 71)
    done = desk.run("verify", "--repair")
    assert done.returncode == 0
    assert f"@sha256:{hexadecimal}: mended: its link is damaged" in done.stdout
    (storage / f"blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data").write_bytes(b"[]")
    done = desk.run("verify", "--repair", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert {(one["problem"]["kind"], one["done"]) for one in report["repaired"]} == {
        ("blob", "removed"),
        ("image", "removed"),
    }
    assert desk.run("verify").returncode == 0
