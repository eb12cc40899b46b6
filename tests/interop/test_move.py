# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/how-to/move-from-registry-2.rst, and of move-from-zuul-jobs.rst for images.

By the configurations and the commands that they show.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from tests.documented import Operator, steps
from tests.interop.content import DOCKER_IMAGE, DOCKER_LIST, INDEX, Pusher, check, push_one_of_each
from tests.interop.registries import PASSWORD, USER, Identity, Program, Storage
from tests.ports import free_port
from tests.roles.intermediate import intermediate, log_in

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


def push_to_zuul_registry(client: httpx.Client) -> Pusher:
    """Push images of several kinds, as builds and signers do; each says its own type."""
    pusher = Pusher(client)
    app = "quay.io/org/deep/app"
    signed = pusher.image(app, b"oci", "v1", "also-v1")
    pusher.image(app, b"docker", "docker", media_type=DOCKER_IMAGE)
    children = [pusher.image(app, seed) for seed in (b"amd64", b"arm64")]
    index = pusher.index(app, INDEX, children, "multi")
    pusher.index(app, INDEX, [index, children[0]], "nested")
    docker = [pusher.image(app, seed, media_type=DOCKER_IMAGE) for seed in (b"da", b"db")]
    pusher.index(app, DOCKER_LIST, docker, "docker-multi")
    pusher.image(app, b"signature", f"{signed.replace(':', '-')}.sig")
    pusher.artifact(app, signed)
    pusher.image("app", b"plain", "7c6c9f4f0e1d4b8a9a52_latest")
    return pusher


def test_images_of_zuul_registry_come_along(
    tmp_path: Path, identity: Identity, registry: Program
) -> None:
    """Of every kind, with equal digests; run again it sends nothing, and a late push comes too."""
    old = intermediate("zuul-registry")
    files: list[Path] = []

    def config(storage: Storage, port: int, identity: Identity) -> dict[str, object]:
        tree: dict[str, dict[str, object]] = json.loads(
            json.dumps(old.config(storage, port, identity))
        )
        tree["registry"]["public-url"] = f"https://127.0.0.1:{port}"
        files.append(tmp_path / "registry.yaml")
        files[0].write_text(json.dumps(tree))
        return dict(tree)

    operator = Operator(tmp_path / "operator", tmp_path / "none")
    translate, find, copy = steps("move-from-zuul-jobs", "The intermediate registry")

    def imported(_storage: Storage, port: int, _identity: Identity) -> dict[str, object]:
        tree: dict[str, object] = yaml.safe_load((operator.folder / "config.yaml").read_text())
        return {**tree, "endpoints": {"single": {"port": port, "address": "127.0.0.1"}}}

    with replace(old, config=config).serving(tmp_path / "storage", identity) as source:
        operator.places = {"registry.yaml": str(files[0])}
        assert "copy --all-tags" in operator.type(translate)
        with replace(registry, config=imported).serving(tmp_path, identity) as destination:
            hosts = [f"127.0.0.1:{one.base_url.port}" for one in (source, destination)]
            log_in(source)
            pushed = push_to_zuul_registry(source)
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            logins = {"auths": {host: {"auth": pair} for host in hosts}}
            (operator.folder / "auth.json").write_text(json.dumps(logins))
            chain = identity.trust.get_ca_certs(binary_form=True)
            (tmp_path / "ca.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, chain)))
            operator.places = {
                "/storage": str(tmp_path / "storage"),
                "old.example.com:9000": hosts[0],
                "new.example.com:5000": hosts[1],
                "ca.pem": str(tmp_path / "ca.pem"),
                "--all-tags": "--all-tags --authfile auth.json",
            }
            operator.type(find)
            # Eight by their tags, and five that were pushed by their digests alone.
            assert len(operator.type(copy).splitlines()) == 8 + 5
            check(destination, pushed.content)
            pushed.image("app", b"late", "late")
            again = operator.type(copy).splitlines()
            assert sum(": 0 bytes sent" in line for line in again) == len(again) - 1
            check(destination, pushed.content)
