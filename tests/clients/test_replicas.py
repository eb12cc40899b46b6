# SPDX-License-Identifier: Apache-2.0
"""Clients that push to three registries behind a proxy, one of which is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients import daemon, farm
from tests.clients.commands import run
from tests.clients.conftest import Trial
from tests.clients.farm import Farm
from tests.clients.images import Kind, Source, make_large
from tests.clients.tools import Client, login
from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import PASSWORD, USER

#: Each store behind one of the proxies: ``FARM_STORES="minio-nginx swift-haproxy"`` tries two.
FARMS = os.environ.get("FARM_STORES", "minio-nginx").split()
MEGABYTES = int(os.environ.get("FARM_MEGABYTES", "50"))
#: How often a push is repeated that the client itself has given up.
REPEATED = 3
SECONDS = 900
PUSHING = {"docker": Kind.DOCKER, "podman": Kind.OCI}


@pytest.fixture(scope="module")
def large(folder: Path) -> Source:
    """An image that takes a while to push."""
    return make_large(folder / "farm", MEGABYTES)


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("name", FARMS)
def test_a_push_survives_the_end_of_a_registry(
    trial: Trial, object_stores: ObjectStores, large: Source, tmp_path: Path, name: str
) -> None:
    """By docker and podman: the push ends well or is repeated, and all pull what was pushed."""
    store, proxy = name.split("-")
    skopeo = trial.clients["skopeo"]
    with farm.running(tmp_path, proxy, farm.storage_of(store, object_stores)) as here:
        # First of all: it refuses to where docker has a token that takes the place of a password.
        login(skopeo, here.address, USER, PASSWORD)
        for client in (trial.clients[one] for one in PUSHING):
            login(client, here.address, USER, PASSWORD)
            reference = f"{here.address}/org/{client.name}:v1"
            repeated = push(client, large, here, reference)
            pulled = skopeo.pull(reference)
            assert client.pull(reference) == pulled
            how = f"repeated {repeated} times by hand" if repeated else "went on by itself"
            said = f"pushed {MEGABYTES} MB by {proxy} to three registries on {store}, one killed"
            trial.ledger.note(client.name, f"{said}: {how}")
        # By the one that is left.
        copied = skopeo.push(trial.source, Kind.INDEX, f"{here.address}/org/skopeo:v1")
        assert digest_at(f"{here.address}/org/skopeo:v1") == copied
        built = build(here.address, tmp_path)
        assert digest_at(f"{here.address}/org/built:v1") == built
        trial.ledger.note("skopeo", f"pushed by {proxy} to {store}")
        trial.ledger.note("buildkit", f"built and pushed by {proxy} to {store}")


def digest_at(reference: str) -> str:
    """Return the digest of the manifest or index that a tag has."""
    raw = run("skopeo", "inspect", "--raw", f"docker://{reference}")
    return "sha256:" + hashlib.sha256(raw.encode()).hexdigest()


def build(address: str, folder: Path) -> str:
    """Build an image by buildkit and push it; returns the digest that it tells."""
    config, log, told = (folder / name for name in ("buildkitd.toml", "buildkitd.log", "told.json"))
    config.write_text(f'[registry."{address}"]\nca = ["/etc/docker/certs.d/{address}/ca.crt"]\n')
    socket = f"unix://{folder}/buildkit.sock"
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /made\n")
    options = ["--addr", socket, "--root", str(daemon.STATE / "farm"), "--config", str(config)]
    options += ["--containerd-worker=false", "--oci-worker-snapshotter=native"]
    client = ["buildctl", "--addr", socket]
    output = f"--output=type=image,name={address}/org/built:v1,push=true"
    words = ["build", "--frontend=dockerfile.v0", output, f"--metadata-file={told}"]
    words += [f"--local={name}={folder / 'context'}" for name in ("context", "dockerfile")]
    with daemon.process(log, "buildkitd", *options) as started:
        daemon.wait_for(started, log, *client, "debug", "workers")
        # It fetches the token itself, and not the daemon.
        authority = f"/etc/docker/certs.d/{address}/ca.crt"
        run(*client, *words, environment={"SSL_CERT_FILE": authority})
    return str(json.loads(told.read_text())["containerimage.digest"])


def push(client: Client, source: Source, here: Farm, reference: str) -> int:
    """Push, kill a registry meanwhile, and repeat what was given up; returns how often."""
    command = client.pushing(source, PUSHING[client.name], reference)
    log = source.folder / "push.log"
    with log.open("wb") as output:
        with subprocess.Popen(command, stdout=output, stderr=output) as first:
            here.kill_in_mid_push(first)
            code = first.wait(SECONDS)
        for repeated in range(REPEATED):
            if code == 0:
                return repeated
            code = subprocess.run(command, stdout=output, stderr=output, timeout=SECONDS).returncode
    assert code == 0, log.read_text()
    return REPEATED
