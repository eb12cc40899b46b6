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
