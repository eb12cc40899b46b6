# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/how-to/move-from-registry-2.rst, by the configurations that it shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from tests.interop.content import Pusher, check, push_one_of_each
from tests.interop.registries import Identity, Program, Storage
from tests.ports import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "move-from-registry-2"


def localised(name: str, storage: Path, port: int, identity: Identity) -> dict[str, object]:
    """Return an example's configuration, with the paths and the port of this test."""
    text = (EXAMPLES / f"{name}.yml").read_text()
    for there, here in (("/var/lib/registry", storage), ("/etc/registry", identity.folder)):
        text = text.replace(str(there), str(here))
    ports = {"5000": str(port), "5001": str(free_port())}
    text = re.sub("5000|5001", lambda found: ports[found[0]], text)
    config: dict[str, object] = yaml.safe_load(text)
    return config


def shown(program: Program, name: str) -> Program:
    """Return a program with the configuration that the page shows for it."""

    def config(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
        assert isinstance(storage, Path)
        return localised(name, storage, port, identity)

    return replace(program, config=config)


def tell(command: list[str], config: Path) -> dict[str, list[str]]:
    """Run a command of the page, and return what it tells."""
    words = [sys.executable, "-m", "buildset_registry", *command, "--json", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


@pytest.fixture
def config(tmp_path: Path, identity: Identity) -> Path:
    """The configuration that the page ends with, for its commands."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(localised("after", tmp_path / "data", 5000, identity)))
    return path


def test_there_and_back(
    tmp_path: Path, identity: Identity, registry: Program, other: Program, config: Path
) -> None:
    """All content is there after each step; what was pushed meanwhile is there after going back."""
    storage = tmp_path / "data"
    before, after = shown(other, "before"), shown(registry, "after")
    with before.serving(storage, identity) as client:
        content = push_one_of_each(client).content
    assert tell(["verify"], config)["problems"] == []
    assert tell(["gc", "--dry-run"], config)["removed"] == []
    with after.serving(storage, identity) as client:
        check(client, content)
        pusher = Pusher(client)
        pusher.image("new/app", b"pushed meanwhile", "v1")
    with before.serving(storage, identity) as client:
        check(client, content)
        check(client, pusher.content)


def test_a_login_is_wanted_as_before(
    tmp_path: Path, identity: Identity, registry: Program, other: Program
) -> None:
    """registry:2 with htpasswd lets nobody pull without one, and neither does what it becomes."""
    for program in (shown(other, "before"), shown(registry, "after")):
        with program.serving(tmp_path / "data", identity) as client:
            answer = httpx.get(client.base_url.join("/v2/_catalog"), verify=identity.trust)
            assert answer.status_code == 401


def test_the_mirror_in_one(tmp_path: Path, identity: Identity, registry: Program) -> None:
    """With a mirror, what one registry took over is pulled where docker's mirror is, too."""
    storage = tmp_path / "data"
    with shown(registry, "after").serving(storage, identity) as client:
        content = push_one_of_each(client).content
    with shown(registry, "after-with-mirror").serving(storage, identity) as client:
        check(client, content)
        anonymous = httpx.get(client.base_url.join("/v2/org/app/tags/list"), verify=identity.trust)
        assert anonymous.status_code == 200
