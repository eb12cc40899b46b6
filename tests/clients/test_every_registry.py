# SPDX-License-Identifier: Apache-2.0
"""docker gets the buildset's image by the name of any registry, and no other program does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clients import proxied
from tests.clients.commands import refused, run
from tests.clients.conftest import Trial
from tests.clients.images import Kind
from tests.clients.proxied import NAMES, Docker
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


@pytest.fixture(scope="module", params=NAMES)
def docker(
    folder: Path, proxying: Registry, trusting: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[Docker]:
    """A dockerd that is told of the proxy: by its environment, or the current one by a file."""
    url, direct = proxy_url(proxying), "192.0.2.1"
    settings: dict[str, object] = {"registry-mirrors": [f"https://{proxying.pull}"]}
    environment = trusting
    if request.param == "docker":
        environment = {**trusting, "HTTPS_PROXY": url, "NO_PROXY": direct}
    else:
        settings["proxies"] = {"https-proxy": url, "no-proxy": direct}
    place = Docker(request.param, folder / f"proxied-{NAMES.index(request.param)}")
    with proxied.running(place, settings, environment) as made:
        yield made


def publish(trial: Trial, image: str) -> str:
    """Push an image to the real registry of its name; the digest."""
    return trial.clients["skopeo"].push(trial.source, Kind.DOCKER, image)


def test_the_buildsets_image_by_the_name_of_quay(
    trial: Trial, public: Upstream, proxying: Registry, docker: Docker
) -> None:
    """docker gets what was pushed, though quay.io has another image; everybody else gets that."""
    image = "quay.io/org/shadowed:v1"
    theirs = publish(trial, image)
    ours = trial.clients["skopeo"].push(trial.source, Kind.OCI, f"{proxying.push}/{image}")
    assert ours != theirs
    assert docker.pull(image) == ours
    assert json.loads(run("skopeo", "inspect", f"docker://{image}"))["Digest"] == theirs
    assert trial.clients["podman"].pull(image).digest == theirs
    assert (
        "docker-distribution-api-version"
        in run("curl", "--silent", "--head", "--cacert", public.ca, "https://quay.io/v2/").lower()
    )
    with public.away():
        assert docker.pull(image) == ours
    trial.ledger.note(docker.name, "pulled the buildset's image by a name of quay.io (proxy)")


def test_an_image_of_quay_comes_through_the_registry(
    trial: Trial, public: Upstream, proxying: Registry, docker: Docker
) -> None:
    """What nobody pushed is quay.io's own, and again without quay.io."""
    theirs = publish(trial, "quay.io/org/public:v1")
    assert docker.pull("quay.io/org/public:v1") == theirs
    with public.away():
        assert docker.pull("quay.io/org/public:v1") == theirs
    assert re.search(r"GET /v2/org/public/manifests/\S+[?]ns=quay.io", proxying.log)
    refusal = refused(*docker.command("pull", "quay.io/org/nowhere:v1"))
    assert "not found" in refusal or "manifest unknown" in refusal
    trial.ledger.note(docker.name, "pulled an image of quay.io through the registry (proxy)")


def test_other_registries_are_what_they_were(
    trial: Trial, proxying: Registry, docker: Docker
) -> None:
    """docker reaches a registry that ours does not know by a tunnel; Docker Hub by its mirror."""
    theirs = publish(trial, f"{OTHER}/org/app:v1")
    assert docker.pull(f"{OTHER}/org/app:v1") == theirs
    hub = publish(trial, "quay.io/library/mirrored:v1")
    assert docker.pull("mirrored:v1") == hub
    # A tunnel is logged when it ends, and docker keeps its own for a while.
    proxying.down()
    proxying.up()
    assert f'"CONNECT {OTHER}:443" 200 ' in proxying.log
    assert "CONNECT registry-1.docker.io" not in proxying.log
    trial.ledger.note(docker.name, "reached a registry that ours does not know by a tunnel (proxy)")


def test_a_push_by_the_name_of_quay_is_refused(
    trial: Trial, proxying: Registry, docker: Docker
) -> None:
    """By a line that says where to push to; so is a registry on a port that is closed."""
    image = "quay.io/org/pushed:v1"
    run(*docker.command("load", "--input", trial.source.archive(image)))
    said = refused(*docker.command("push", image))
    assert f"push to port {proxying.facts['push_port']}" in said
    assert "proxy.ports" in refused(*docker.command("pull", f"{OTHER}:8444/org/app:v1"))
    trial.ledger.note(docker.name, "was refused to push by a name of quay.io (proxy)")


def test_a_wrong_password_of_the_proxy_is_told(
    trial: Trial, proxying: Registry, trusting: dict[str, str], folder: Path
) -> None:
    """docker says what is wrong, for every registry."""
    environment = {**trusting, "HTTPS_PROXY": proxy_url(proxying, password="wrong")}
    with proxied.running(Docker("docker", folder / "wrong"), {}, environment) as docker:
        said = refused(*docker.command("pull", "quay.io/org/app:v1"))
        assert "user name or password is wrong" in said
    trial.ledger.note(docker.name, "was refused with a wrong password (proxy)")
