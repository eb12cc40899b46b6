# SPDX-License-Identifier: Apache-2.0
"""docker gets the buildset's image by the name of any registry, and no other program does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clients import daemon
from tests.clients.commands import refused, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.registry import Registry, running
from tests.clients.upstream import OTHER, Upstream

#: Where the registries upstream have their tokens from.
_TOKEN_PORT = 8443


@pytest.fixture(scope="module")
def proxying(folder: Path, public: Upstream) -> Iterator[Registry]:
    """A registry that is a proxy, too; quay.io is one of its upstreams."""
    ports = ["--port", "5010", "--push-port", "5011", "--proxy-port", "5012"]
    options = ["--host", "192.0.2.1", *ports, "--upstreams-file", str(public.settings())]
    with running(folder / "proxying", *options) as made:
        settings = made.root / "config.yaml"
        tree = yaml.safe_load(settings.read_text())
        tree["proxy"]["ports"] = [443, _TOKEN_PORT]
        settings.write_text(yaml.safe_dump(tree))
        made.up()
        login = ["--username", made.facts["username"], "--password-stdin", made.push]
        run("skopeo", "login", *login, stdin=made.facts["password"])
        yield made


@pytest.fixture(scope="module")
def trusting(folder: Path, proxying: Registry) -> Iterator[dict[str, str]]:
    """What dockerd has in its environment, besides the proxy.

    It trusts the registry for quay.io, besides quay.io itself, and as a proxy.
    """
    trusted = folder / "trusted"
    trusted.mkdir()
    (trusted / "buildset-registry.pem").write_text(proxying.facts["cert"])
    own = Path("/etc/docker/certs.d/quay.io/buildset-registry.crt")
    own.write_text(proxying.facts["cert"])
    yield {"SSL_CERT_DIR": f"/etc/ssl/certs:{trusted}"}
    own.unlink()


def proxy_url(registry: Registry, **changed: str) -> str:
    """Return the proxy as dockerd is told of it."""
    url = "https://{username}:{password}@{host}:{proxy_port}"
    return url.format(**registry.facts | changed)


@pytest.fixture(scope="module")
def docker(folder: Path, proxying: Registry, trusting: dict[str, str]) -> Iterator[list[str]]:
    """A dockerd whose proxy is the registry; it alone has that in its environment."""
    environment = {**trusting, "HTTPS_PROXY": proxy_url(proxying), "NO_PROXY": "192.0.2.1"}
    settings = {"registry-mirrors": [f"https://{proxying.pull}"]}
    place = daemon.Place(folder / "proxied-docker")
    with daemon.running(folder / "proxied-docker.log", settings, place, environment) as client:
        yield client


def pulled(docker: list[str], reference: str) -> str:
    """Pull an image of which docker has nothing, and tell its digest."""
    images = run(*docker, "image", "ls", "--all", "--quiet").split()
    if images:
        run(*docker, "image", "rm", "--force", *sorted(set(images)))
    run(*docker, "pull", reference)
    image = json.loads(run(*docker, "image", "inspect", reference))[0]
    return str(image["RepoDigests"][0].partition("@")[2])


def publish(trial: Trial, image: str) -> str:
    """Push an image to the real registry of its name; the digest."""
    return trial.clients["skopeo"].push(trial.source, Kind.DOCKER, image)


def test_the_buildsets_image_by_the_name_of_quay(
    trial: Trial, public: Upstream, proxying: Registry, docker: list[str]
) -> None:
    """docker gets what was pushed, though quay.io has another image; everybody else gets that."""
    image = "quay.io/org/shadowed:v1"
    theirs = publish(trial, image)
    ours = trial.clients["skopeo"].push(trial.source, Kind.OCI, f"{proxying.push}/{image}")
    assert ours != theirs
    assert pulled(docker, image) == ours
    assert json.loads(run("skopeo", "inspect", f"docker://{image}"))["Digest"] == theirs
    assert trial.clients["podman"].pull(image).digest == theirs
    assert (
        "docker-distribution-api-version"
        in run("curl", "--silent", "--head", "--cacert", public.ca, "https://quay.io/v2/").lower()
    )
    with public.away():
        assert pulled(docker, image) == ours
    trial.ledger.note("docker", "pulled the buildset's image by a name of quay.io (proxy)")


def test_an_image_of_quay_comes_through_the_registry(
    trial: Trial, public: Upstream, proxying: Registry, docker: list[str]
) -> None:
    """What nobody pushed is quay.io's own, and again without quay.io."""
    theirs = publish(trial, "quay.io/org/public:v1")
    assert pulled(docker, "quay.io/org/public:v1") == theirs
    with public.away():
        assert pulled(docker, "quay.io/org/public:v1") == theirs
    assert '"CONNECT quay.io:443" 200 ' in proxying.log
    refusal = refused(*docker, "pull", "quay.io/org/nowhere:v1")
    assert "not found" in refusal or "manifest unknown" in refusal
    trial.ledger.note("docker", "pulled an image of quay.io through the registry (proxy)")


def test_other_registries_are_what_they_were(
    trial: Trial, proxying: Registry, docker: list[str]
) -> None:
    """docker reaches a registry that ours does not know by a tunnel; Docker Hub by its mirror."""
    theirs = publish(trial, f"{OTHER}/org/app:v1")
    assert pulled(docker, f"{OTHER}/org/app:v1") == theirs
    assert f'"CONNECT {OTHER}:443" 200 ' in proxying.log
    hub = publish(trial, "quay.io/library/mirrored:v1")
    assert pulled(docker, "mirrored:v1") == hub
    assert "CONNECT registry-1.docker.io" not in proxying.log
    trial.ledger.note("docker", "reached a registry that ours does not know by a tunnel (proxy)")


def test_a_push_by_the_name_of_quay_is_refused(
    trial: Trial, proxying: Registry, docker: list[str]
) -> None:
    """By a line that says where to push to; so is a registry on a port that is closed."""
    image = "quay.io/org/pushed:v1"
    run(*docker, "load", "--input", trial.source.archive(image))
    said = refused(*docker, "push", image)
    assert f"push to port {proxying.facts['push_port']}" in said
    assert "proxy.ports" in refused(*docker, "pull", f"{OTHER}:8444/org/app:v1")
    trial.ledger.note("docker", "was refused to push by a name of quay.io (proxy)")


def test_a_wrong_password_of_the_proxy_is_told(
    trial: Trial, proxying: Registry, trusting: dict[str, str], folder: Path
) -> None:
    """docker says what is wrong, for every registry."""
    environment = {**trusting, "HTTPS_PROXY": proxy_url(proxying, password="wrong")}
    place = daemon.Place(folder / "wrong-docker")
    with daemon.running(folder / "wrong-docker.log", {}, place, environment) as client:
        assert "user name or password is wrong" in refused(*client, "pull", "quay.io/org/app:v1")
    trial.ledger.note("docker", "was refused with a wrong password (proxy)")
