# SPDX-License-Identifier: Apache-2.0
"""The lock of what a registry pulled through, and its replay, by the command and over TLS."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.oci.descriptor import OCI_INDEX, OCI_MANIFEST

from tests.instance.conftest import Desk
from tests.instance.upstream import Upstream, lock_of, pull, run_command
from tests.ports import free_port

PYTHON = "docker.io/library/python:3"
APP = "quay.io/org/app:latest"


class Jobs:
    """An upstream, and the registries of jobs in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.upstream = Upstream.start(self._desk("upstream"))

    def job(self, name: str, *options: object) -> tuple[Desk, dict[str, Any]]:
        """Start the registry of a job; return it with its facts."""
        desk = self._desk(name)
        return desk, self.up(desk, *options)["facts"]

    def up(self, desk: Desk, *options: object) -> dict[str, Any]:
        """Start a registry in front of the upstream."""
        upstreams = self.upstream.settings("docker.io", "quay.io")
        return desk.up("--upstreams-file", "-", *options, stdin=upstreams)

    def close(self) -> None:
        """End all of them."""
        self._stack.close()

    def _desk(self, name: str) -> Desk:
        made = Desk(self.folder / name, (free_port(), free_port()))
        self._stack.callback(made.run, "down", "--purge")
        return made


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """An upstream that has an index, and an image of one platform."""
    made = Jobs(tmp_path)
    try:
        made.upstream.push("library/python", "3", "old", "linux/arm64/v8", "linux/amd64")
        made.upstream.push("org/app", "latest", "old")
        yield made
    finally:
        made.close()


def messages(desk: Desk, facts: dict[str, Any], path: str) -> tuple[int, str]:
    """Return the status of an answer and the message of its error."""
    answer = desk.ask(facts, path)
    return answer.status, json.loads(answer.content)["errors"][0]["message"]


def test_lock_says_what_each_tag_was_and_is_the_same_for_the_same_run(
    jobs: Jobs, tmp_path: Path
) -> None:
    """Running or stopped, and of another registry that pulled the same; what is pushed is not in
    it."""
    texts = []
    for name in ("one", "two"):
        desk, facts = jobs.job(name)
        digests = [pull(desk, facts, image) for image in ("python:3", "quay.io/org/app:latest")]
        file = tmp_path / f"{name}.json"
        for tag in desk.root.glob("data/**/_upstream/_manifests/tags/*/current/link"):
            os.utime(tag, (1_000_000_000, 1_000_000_000))  # both runs are of one day
        images = lock_of(desk, file)
        assert desk.run("lock").stdout == file.read_text()
        assert list(images) == [PYTHON, APP]
        assert images[PYTHON] == {
            "digest": digests[0],
            "media_type": OCI_INDEX,
            "platforms": ["linux/amd64", "linux/arm64/v8"],
            "source": "docker.io",
            "first_seen": "2001-09-09",
        }
        assert (images[APP]["media_type"], images[APP]["platforms"]) == (
            OCI_MANIFEST,
            ["linux/amd64"],
        )
        assert desk.run("down").returncode == 0
        assert desk.run("lock").stdout == file.read_text()
        texts.append(file.read_bytes())
    assert texts[0] == texts[1]


def test_replay_serves_the_old_digests_without_upstream_and_locks_the_same(
    jobs: Jobs, tmp_path: Path
) -> None:
    """Upstream's tag moves between two jobs; a third one replays with its store full and upstream
    unplugged."""
    desk, facts = jobs.job("one")
    old = pull(desk, facts, "python:3")
    file = tmp_path / "images.lock.json"
    lock_of(desk, file)
    file.write_text(re.sub(r"2\d\d\d-\d\d-\d\d", "2019-12-31", file.read_text()))
    new = jobs.upstream.push("library/python", "3", "new", "linux/amd64", "linux/arm64/v8")
    assert pull(desk, facts, "library/python:3") == old
    replaying, its = jobs.job("two", "--lock", file)
    assert pull(replaying, its, "python:3") == old != new
    assert lock_of(replaying, tmp_path / "again.json") == lock_of(desk, file)
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    jobs.upstream.stop()
    assert jobs.up(replaying, "--lock", file)["changes"] == []
    assert replaying.run("down").returncode == 0
    again = jobs.up(replaying)
    assert again["changes"] == ["started"]
    assert pull(replaying, again["facts"], "docker.io/library/python:3") == old


def test_a_lock_wins_over_what_was_pinned_before_and_ends_with_no_lock(
    jobs: Jobs, tmp_path: Path
) -> None:
    """A registry that has another digest under the tag already; what jobs push wins over both."""
    desk, facts = jobs.job("one")
    old = pull(desk, facts, "python:3")
    file = tmp_path / "images.lock.json"
    lock_of(desk, file)
    new = jobs.upstream.push("library/python", "3", "new", "linux/amd64")
    other, its = jobs.job("two")
    assert pull(other, its, "python:3") == new
    report = jobs.up(other, "--lock", file, "--lock-mode", "strict")
    assert report["changes"] == ["configuration", "lock", "restarted"]
    assert pull(other, its, "python:3") == old
    raw = desk.ask(facts, "/v2/python/manifests/3").content
    status, told = messages(other, its, "/v2/quay.io/org/app/manifests/latest")
    assert status == 404
    assert "quay.io/org/app:latest is not in the lock" in told
    assert str(other.root / "lock/images.lock.json") in told
    sent = other.ask(
        its, "/v2/quay.io/org/app/manifests/latest", "PUT",
        b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % OCI_INDEX.encode(),
        which="push_", login=True,
    )  # fmt: skip
    assert sent.status == 201
    assert other.ask(its, "/v2/quay.io/org/app/manifests/latest").status == 200
    assert other.ask(its, f"/v2/python/manifests/{new}").status == 200, raw
    assert jobs.up(other, "--no-lock")["changes"] == ["configuration", "restarted"]
    assert other.ask(its, "/v2/python/manifests/3").status == 200


def test_what_upstream_has_no_more_is_said_at_once_and_at_each_pull(
    jobs: Jobs, tmp_path: Path
) -> None:
    """By up, in the log, and to the client that wants it; the rest of the lock is served."""
    desk, facts = jobs.job("one")
    digests = {image: pull(desk, facts, image) for image in ("python:3", "quay.io/org/app:latest")}
    file = tmp_path / "images.lock.json"
    lock_of(desk, file)
    jobs.upstream.push("library/python", "3", "new", "linux/amd64")
    jobs.upstream.delete("library/python", digests["python:3"])
    other, _its = jobs.job("two")
    report = jobs.up(other, "--lock", file)
    (warning,) = report["warnings"]
    assert "1 of 2 images are no longer at their upstreams" in warning
    assert f"{PYTHON}@{digests['python:3']}" in warning
    while f"{PYTHON}@" not in (other.root / "log/registry.log").read_text():
        time.sleep(0.05)
    status, told = messages(other, report["facts"], "/v2/library/python/manifests/3")
    assert status == 404
    assert str(other.root / "lock/images.lock.json") in told
    assert digests["python:3"] in told
    assert (
        pull(other, report["facts"], "quay.io/org/app:latest") == digests["quay.io/org/app:latest"]
    )


def test_update_asks_upstream_and_shows_the_difference(jobs: Jobs, tmp_path: Path) -> None:
    """Of some images or of all; what upstream cannot tell stays, and the exit code says so."""
    desk, facts = jobs.job("one")
    old = pull(desk, facts, "python:3")
    pull(desk, facts, "quay.io/org/app:latest")
    file = tmp_path / "images.lock.json"
    lock_of(desk, file)
    new = jobs.upstream.push("library/python", "3", "new", "linux/amd64")
    newer = jobs.upstream.push("org/app", "latest", "new")
    done = desk.run("lock", "--output", file, "--update", "python")
    assert (done.returncode, done.stdout) == (0, f"{PYTHON}: {old} -> {new}\n1 images moved\n")
    images = json.loads(file.read_text())["images"]
    assert (images[PYTHON]["digest"], images[PYTHON]["platforms"]) == (new, ["linux/amd64"])
    assert images[APP]["digest"] != newer
    shown = desk.run("lock", "--update")
    assert json.loads(shown.stdout)["images"][APP]["digest"] == newer
    assert f"{APP}: " in shown.stderr
    assert "not in the lock" in desk.refused("lock", "--output", file, "--update", "nobody:1")
    before = file.read_bytes()
    jobs.upstream.stop()
    failed = desk.run("lock", "--output", file, "--update", APP)
    assert failed.returncode == 1
    assert f"{APP}: unchanged, upstream quay.io" in failed.stdout
    assert file.read_bytes() == before


def test_exports_of_a_running_registry(jobs: Jobs, tmp_path: Path) -> None:
    """BuildKit's rules, the statement with what was pushed, and compose's override."""
    desk, facts = jobs.job("one")
    digest = pull(desk, facts, "quay.io/org/app:latest")
    policy = json.loads(desk.run("lock", "--format", "source-policy").stdout)
    identifiers = [rule["selector"]["identifier"] for rule in policy["rules"]]
    assert identifiers == [f"docker-image://{APP}", "docker-image://quay.io/org/app"]
    statement = json.loads(desk.run("lock", "--format", "slsa").stdout)
    assert [one["name"] for one in statement["subject"]] == ["images.lock.json"]
    compose = tmp_path / "compose.yaml"
    compose.write_text("services:\n  web:\n    image: quay.io/org/app\n  own: {build: .}\n")
    words = ("lock", "--format", "compose", "--compose-file")
    done = desk.run(*words, compose)
    assert done.stdout == f"services:\n  web:\n    image: {APP}@{digest}\n"
    assert desk.run(*words, "-", stdin=compose.read_text()).stdout == done.stdout
    other = desk.run(*words, "-", stdin="services: {db: {image: 'postgres:$V'}}")
    assert (other.stdout, other.returncode) == ("services: {}\n", 0)
    assert "not in the lock: db (postgres:$V)" in other.stderr


def test_a_folder_of_images_replays_a_lock_without_any_network(jobs: Jobs, tmp_path: Path) -> None:
    """With an empty store: tags and blobs come from the folder, each to its repository only; what
    the folder lacks is said at once."""
    desk, facts = jobs.job("one")
    jobs.upstream.push("org/other", "1", "other")
    old = pull(desk, facts, "python:3")
    pull(desk, facts, "quay.io/org/app:latest")
    file, folder = tmp_path / "images.lock.json", tmp_path / "layout"
    images = lock_of(desk, file)
    place = f"127.0.0.1:{facts['port']}"
    ca = desk.root / "cert.pem"
    copied = run_command(
        "copy", "--lock", file, f"oci:{folder}", "--from", place, "--source-ca", ca
    )
    assert copied.returncode == 0, copied.stderr
    jobs.upstream.stop()
    words = ("--lock", file, "--lock-mode", "strict", "--images", f"oci:{folder}")
    other, its = jobs.job("two", *words)
    assert pull(other, its, "python:3") == old
    assert pull(other, its, APP) == images[APP]["digest"]
    assert lock_of(other, tmp_path / "again.json") == images
    own = other.ask(its, f"/v2/quay.io/org/app/manifests/{images[APP]['digest']}")
    (layer,) = json.loads(own.content)["layers"]
    assert other.ask(its, f"/v2/quay.io/org/other/blobs/{layer['digest']}").status != 200
    assert jobs.up(other, *words)["changes"] == []
    (folder / "blobs/sha256" / layer["digest"].removeprefix("sha256:")).unlink()
    third = jobs.up(jobs.job("three")[0], *words)
    assert f"{folder} lacks 1 of 2 images of the lock" in third["warnings"][0]
    assert APP in third["warnings"][0]


def test_a_lock_is_copied_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """What would not be the images of the lock is refused in one line."""
    file = _written(tmp_path, (LOCK % f'"python:3": {SOME}').encode())
    wrong: dict[str, tuple[object, ...]] = {
        "one of both": ("copy", "--lock", file, "quay.io/org/app", "oci:x"),
        "give --lock, too": ("copy", "--from", "localhost", "quay.io/org/app", "oci:x"),
        "add --sparse": ("copy", "--lock", file, "--platform", "linux/amd64", "oci:x"),
        "give the folder alone": ("copy", "--lock", file, "oci:x:y"),
        "is no place for several images": ("copy", "--lock", file, "localhost:5000/x"),
    }
    for told, words in wrong.items():
        done = run_command(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert told in done.stderr


def test_a_folder_that_holds_no_images_is_refused(desk: Desk, tmp_path: Path) -> None:
    """In one line that says how to make one: by up, before anything is made."""
    file = _written(tmp_path, (LOCK % f'"python:3": {SOME}').encode())
    words = ("up", "--lock", file, "--images")
    assert "is no folder of images in the OCI layout" in desk.refused(*words, f"oci:{tmp_path}")
    assert "names no folder" in desk.refused(*words, "oci:")
    (tmp_path / "index.json").write_text("{}")
    for layout, told in (("{", "is not JSON"), ('{"imageLayoutVersion": "2"}', "of version '2'")):
        (tmp_path / "oci-layout").write_text(layout)
        assert told in desk.refused(*words, f"oci:{tmp_path}")
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256" / (64 * "a")).write_text("{}")
    assert "is damaged" in desk.refused(*words, f"oci:{tmp_path}")
    assert "need a lock" in desk.refused("up", "--images", f"oci:{tmp_path}")


LOCK = '{"version": 1, "images": {%s}}'
SOME = '{"digest": "sha256:' + 64 * "a" + '"}'
BROKEN = {
    "is not JSON: line 2, column 1": '{"version": 1,\n',
    "is of version 2, and this program knows version 1": '{"version": 2, "images": {}}',
    "is of version None": "{}",
    "which is no JSON object": "[]",
    "images is None": '{"version": 1}',
    "images['python'] is not the name of an image: it has no tag": LOCK % f'"python": {SOME}',
    "images['a b:1'] is not the name of an image: not a repository name": LOCK % f'"a b:1": {SOME}',
    "images['python:3'] is docker.io/library/python:3, which the lock has already": LOCK
    % f'"{PYTHON}": {SOME}, "python:3": {SOME}',
    "has 'python:3' twice": LOCK % f'"python:3": {SOME}, "python:3": {SOME}',
    "images['python:3'].digest: not a digest": LOCK % '"python:3": {"digest": "sha256:1"}',
    "images['python:3'].platforms is 'all'": LOCK
    % f'"python:3": {SOME[:-1]}, "platforms": "all"}}',
    "images['nobody.example:5000/app:1']: nobody.example:5000 is not among the upstreams": LOCK
    % f'"nobody.example:5000/app:1": {SOME}',
}


@pytest.mark.parametrize("told", BROKEN)
def test_a_broken_lock_is_one_line_that_names_the_place(
    desk: Desk, tmp_path: Path, told: str
) -> None:
    """Before anything is made."""
    file = tmp_path / "images.lock.json"
    file.write_text(BROKEN[told])
    line = desk.refused("up", "--lock", file)
    assert str(file) in line
    assert told in line
    assert not desk.root.exists()


def test_a_lock_that_cannot_be_read_and_options_that_need_one(desk: Desk, tmp_path: Path) -> None:
    """One line each; serve says the same of the lock that its configuration names."""
    assert "cannot read the lock" in desk.refused("up", "--lock", tmp_path / "none.json")
    assert "is not UTF-8" in desk.refused("up", "--lock", _written(tmp_path, b"\xff"))
    assert "need a lock" in desk.refused("up", "--lock-mode", "strict")
    file = _written(tmp_path, (LOCK % f'"python:3": {SOME}').encode())
    assert "goes with no other option" in desk.refused("up", "--no-lock", "--lock", file)
    assert "there is no registry" in desk.refused("lock")


def test_the_server_refuses_a_lock_that_was_broken_since(desk: Desk, tmp_path: Path) -> None:
    """The line is that of the reader, with the path in the registry's folder."""
    file = _written(tmp_path, (LOCK % "").encode())
    desk.up("--lock", file)
    assert desk.run("down").returncode == 0
    (desk.root / "lock/images.lock.json").write_text("{")
    line = desk.refused("up", "--supervisor", "process")
    assert f"the lock {desk.root}/lock/images.lock.json is not JSON: line 1, column 2" in line


def _written(folder: Path, content: bytes) -> Path:
    file = folder / "images.lock.json"
    file.write_bytes(content)
    return file
