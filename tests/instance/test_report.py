# SPDX-License-Identifier: Apache-2.0
"""``report`` of registries that ``up`` made: as text, as JSON, as a page, and what it refuses."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buildset_clients.canary.image import PushEndpoint
from buildset_clients.registry import Setup

from tests.instance.conftest import Desk
from tests.instance.test_gc import push_image
from tests.instance.upstream import Upstream, pull
from tests.ports import free_port

IMAGE = "quay.io/org/app:latest"


@pytest.fixture
def facts(desk: Desk) -> dict[str, Any]:
    """A registry to which an image was pushed, and from which it was pulled."""
    found: dict[str, Any] = desk.up()["facts"]
    push_image(desk, found)
    assert desk.ask(found, "/v2/app/manifests/latest").status == 200
    return found


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """An upstream that has an index of two platforms."""
    made = Upstream.start(Desk(tmp_path / "upstream", (free_port(), free_port())))
    made.push("org/app", "latest", "old", "linux/amd64", "linux/arm64/v8")
    yield made
    made.desk.run("down", "--purge")


def report(desk: Desk, *words: object) -> dict[str, Any]:
    """Return the report as JSON, once the last second is in it."""
    deadline = time.monotonic() + 60
    while True:
        done = desk.run("report", "--json", *words)
        assert done.returncode == 0, done.stderr
        tree: dict[str, Any] = json.loads(done.stdout)
        if tree["pulls"]:
            return tree
        assert time.monotonic() < deadline, tree


def test_a_report_has_layers_pulls_and_who_never_asked(desk: Desk, facts: dict[str, Any]) -> None:
    """Beside the running registry, and after a kill: what was written is there."""
    made = report(desk, "--node", "web=192.0.2.7")
    (pushed,), (pulled,) = made["pushes"], made["pulls"]
    assert pushed["image"] == pulled["image"] == "docker.io/library/app"
    assert (pushed["user"], pushed["size"], len(pushed["parts"])) == ("buildset", 2, 1)
    assert pulled["source"] == "pushed by buildset from 127.0.0.1"
    assert made["unseen"] == ["web (192.0.2.7) never asked for an image"]
    desk.kill(*desk.processes())
    assert report(desk)["pulls"] == made["pulls"]


def test_a_node_s_canary_speaks_in_the_report(desk: Desk, facts: dict[str, Any]) -> None:
    """As the role leaves its words, with the registry's password; others cannot speak for it."""
    setup = Setup.read(facts, "zuul-jobs.buildset-registry", [], [])
    PushEndpoint(setup.registry).tell("found by podman, docker")
    stranger = Setup.read({**facts, "username": "", "password": ""}, "alias", [], [])
    PushEndpoint(stranger.registry).tell("found by everybody")
    while not (nodes := report(desk)["nodes"])[0]["said"]:
        pass
    assert [node["said"] for node in nodes] == [["found by podman, docker"]]
    assert report(desk)["missing"] == []


def test_a_report_is_a_text_and_a_file(desk: Desk, facts: dict[str, Any]) -> None:
    """The password is in neither."""
    report(desk)
    file = desk.root.parent / "report.html"
    done = desk.run("report", "--html", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = desk.run("report").stdout
    for shown in (text, file.read_text()):
        assert "docker.io/library/app:latest" in shown
        assert facts["password"] not in shown


def test_a_report_that_cannot_be_made_is_refused_in_a_line(desk: Desk) -> None:
    """No registry, no ledger, no folder to write to, a node without address."""
    assert "there is no registry in" in desk.refused("report")
    desk.up()
    assert "--html" not in desk.refused("report", "--html", desk.root / "none" / "report.html")
    assert "is not NAME=ADDRESS" in desk.refused("report", "--node", "web")
    config = desk.root / "config.yaml"
    config.write_text(config.read_text().replace("ledger:\n  folder: ledger\n", "ledger: null\n"))
    assert "keeps no ledger; set ledger.folder" in desk.refused("report")
    assert desk.up()["changes"] == ["restarted"]
    assert "keeps no ledger" in desk.refused("report")


def test_a_tag_that_moved_since_it_was_pulled_is_told(desk: Desk, upstream: Upstream) -> None:
    """Both jobs got the same image, each in one row; that upstream cannot tell is told, too."""
    facts = desk.up("--upstreams-file", "-", stdin=upstream.settings("quay.io"))["facts"]
    pulled = pull(desk, facts, IMAGE)
    while not report(desk)["pulls"]:  # what one client asks for in one moment is one row
        pass
    now = upstream.push("org/app", "latest", "new")
    assert pull(desk, facts, IMAGE) == pulled != now
    made = report(desk, "--ask-upstreams")
    (moved,) = made["moved"]
    assert (moved["image"], moved["tag"]) == ("quay.io/org/app", "latest")
    assert (moved["digests"], moved["where"]) == ([pulled, now], "moved since it was pulled")
    assert report(desk)["moved"] == []
    while len(made["pulls"]) < 2:
        made = report(desk)
    first, second = made["pulls"]
    assert first["digest"] == second["digest"] == pulled
    platforms = [one["platform"] for one in first["manifests"]]
    assert sorted(platforms) == ["linux/amd64", "linux/arm64/v8"]
    assert first["upstream_bytes"] > 0 == second["upstream_bytes"]
    upstream.stop()
    assert "is not known: upstream quay.io" in report(desk, "--ask-upstreams")["gaps"][-1]
