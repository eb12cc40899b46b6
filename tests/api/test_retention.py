# SPDX-License-Identifier: Apache-2.0
"""Retention through the registry's own ports and its command, on files that are old."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from buildset_registry.cli import main

from tests.api.configurations import on_disk, once, only
from tests.api.harness import Harness, Registry, code, digest_of
from tests.api.test_image_tokens import ask
from tests.api.years import grow_old

BUILD = "0123456789abcdef0123456789abcdef_"
RULES: dict[str, Any] = {
    "rules": [{"name": "builds", "tags": ["{uuid}_*"], "keep_pulled_within": "7d"}],
    "quotas": [{"prefix": "org", "hard": 3000}],
}


class Command:
    """``gc`` with a configuration of the registry's folder, beside it."""

    def __init__(self, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._config = registry.storage.with_suffix(".yaml")
        tree = {"endpoints": {"single": {"port": 5000}}, "storage": str(registry.storage)}
        self._config.write_text(yaml.safe_dump(tree))

    def gc(self, *words: str) -> str:
        """Return what it prints."""
        assert main(["gc", "--config", str(self._config), *words]) == 0
        return self._capsys.readouterr().out


@only(once, on_disk, why="the files are made old, and a registry is started again and again")
def test_a_registry_keeps_what_is_pulled_and_says_what_became_of_the_rest(
    harness: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over restarts: a pull by digest counts, a dry run tells, a later 404 names day and rule."""
    registry = harness.start(retention=RULES)
    command = Command(registry, capsys)
    pulled, unused, latest = (
        registry.push_image("org/app", tag, tag.encode())
        for tag in (f"{BUILD}pulled", f"{BUILD}unused", "latest")
    )
    assert "retention: the rules are new or were changed; nothing" in command.gc()
    registry.stop()
    grow_old(registry.storage, 20)
    registry = harness.start(retention=RULES)
    assert registry.pull.get(f"/v2/org/app/manifests/{pulled}").status_code == 200
    registry.stop()  # the use is in the storage before the process is gone
    registry = harness.start(retention=RULES)
    told = command.gc("--dry-run")
    name = f"image org/app:{BUILD}"
    assert f"{name}pulled stays by rule builds: last used 0 minutes ago\n" in told
    assert f"{name}unused goes by rule builds: pushed 20 days ago, last used 20 days ago\n" in told
    assert "image org/app:latest stays: no rule matches\n" in told
    assert "would remove 1 tags, 0 abandoned uploads, 1 manifests" in told
    removed = json.loads(command.gc("--json"))["removed"]
    assert [one["kind"] for one in removed] == ["tag", "manifest"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    for reference in (f"{BUILD}unused", unused):
        gone = registry.pull.get(f"/v2/org/app/manifests/{reference}")
        assert gone.status_code == 404
        message = gone.json()["errors"][0]["message"]
        assert message.endswith(f"; it was removed on {today} by rule builds of the retention")
    for reference in (pulled, latest, f"{BUILD}pulled", "latest"):
        assert registry.pull.get(f"/v2/org/app/manifests/{reference}").status_code == 200
    assert registry.push_image("org/app", f"{BUILD}unused", b"again")
    assert registry.pull.get(f"/v2/org/app/manifests/{BUILD}unused").status_code == 200


@only(once, on_disk, why="a registry is started again")
def test_a_section_that_is_dropped_for_a_while_begins_anew(
    harness: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes by rules meanwhile, nor at once when they are back: nobody noted the pulls."""
    at_once = {**RULES, "delay": "0s"}
    registry = harness.start(retention=at_once)
    command = Command(registry, capsys)
    registry.push_image("org/app", f"{BUILD}old")
    command.gc()
    registry.stop()
    grow_old(registry.storage, 20)
    harness.start().stop()
    registry = harness.start(retention=at_once)
    assert "retention: the rules are new or were changed" in command.gc()
    assert registry.push.get("/v2/org/app/tags/list").json()["tags"] == [f"{BUILD}old"]
    assert "removed 1 tags" in command.gc()


@only(on_disk, why="a quota is counted by the collector, which has no command for other stores")
def test_an_upload_past_a_quota_is_refused_when_it_starts(
    harness: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the figures, and neither elsewhere nor where there is room again."""
    registry = harness.start(retention=RULES)
    command = Command(registry, capsys)
    registry.push_image("org/app", "latest", b"seed")
    content = b"x" * 2000
    assert registry.push_blob("org/app", content) == digest_of(content)
    started = registry.push.post(
        "/v2/org/app/blobs/uploads/", params={"digest": digest_of(content)}, content=content
    )
    assert started.status_code == 403
    assert code(started) == "DENIED"
    message = started.json()["errors"][0]["message"]
    assert "the images of org take 20" in message
    assert " of the 3000 bytes of their quota, and this upload has 2000" in message
    assert registry.push.post("/v2/organ/app/blobs/uploads/").status_code == 202
    command.gc()  # nothing refers to the blob, so it does not count
    again = registry.push.post(
        "/v2/org/app/blobs/uploads/", params={"digest": digest_of(content)}, content=content
    )
    assert again.status_code == 201


@only(once, on_disk, why="the files are made old, and a registry is started again")
def test_what_a_token_names_is_kept_for_whoever_has_it(
    harness: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a restart; a token for a whole repository, or nobody's, keeps nothing."""
    registry = harness.start(retention=RULES)
    command = Command(registry, capsys)
    tags = [f"{BUILD}{name}" for name in ("leased", "other", "whole", "anonymous")]
    leased, *_others = (registry.push_image("org/app", tag, tag.encode()) for tag in tags)
    command.gc()
    scopes = [f"image:org/app@{leased}:pull", f"image:org/app:{tags[0]}:pull"]
    answer = ask(registry, *scopes, expires_in="7200")
    assert answer.json()["expires_in"] == 7200
    ask(registry, "repository:org/app:pull")
    registry.anonymous.get("/token", params={"scope": f"image:org/app:{tags[3]}:pull"})
    registry.stop()
    grow_old(registry.storage, 20)
    registry = harness.start(retention=RULES)
    told = command.gc("--dry-run")
    assert f"image org/app:{tags[0]} stays by a token: leased until " in told
    assert "would remove 3 tags" in told
    command.gc()
    assert registry.push.get("/v2/org/app/tags/list").json()["tags"] == [tags[0]]
    headers = {"Authorization": f"Bearer {ask(registry, *scopes).json()['token']}"}
    path = f"/v2/org/app/manifests/{leased}"
    assert registry.anonymous.get(path, headers=headers).status_code == 200
    assert registry.push.delete(path).status_code == 202
    assert registry.anonymous.get(path, headers=headers).status_code == 404


@only(once, on_disk, why="a registry is started again")
def test_a_quota_counts_what_came_since_also_after_a_restart(harness: Harness) -> None:
    """By pushes and by mounts from elsewhere; what the repositories share counts once."""
    registry = harness.start(retention=RULES)
    content, elsewhere = b"x" * 1200, b"y" * 1200
    for _time in range(3):
        assert registry.push_blob("org/app", content)
    registry.push_blob("other/app", elsewhere)
    mounts = "/v2/org/app/blobs/uploads/"
    from_elsewhere = {"mount": digest_of(elsewhere), "from": "other/app"}
    assert registry.push.post(mounts, params=from_elsewhere).status_code == 201
    inside = {"mount": digest_of(content), "from": "org/app"}
    assert registry.push.post("/v2/org/b/blobs/uploads/", params=inside).status_code == 201
    for _time in range(2):
        refused = registry.push.post(mounts, content=b"z" * 601)
        assert refused.status_code == 403
        assert "org take 2400 of the 3000 bytes" in refused.json()["errors"][0]["message"]
        registry.stop()
        registry = harness.start(retention=RULES)
    assert registry.push.post(mounts, content=b"z" * 600).status_code in (201, 202)
