# SPDX-License-Identifier: Apache-2.0
"""The registry, the clients and what they are tried with, once for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import daemon, upstream
from tests.clients.images import Kind, Source, make_source
from tests.clients.ledger import Ledger
from tests.clients.registry import Registry, running
from tests.clients.tools import Client, CurrentDocker, Docker, Pulled, Skopeo, Storage, login
from tests.clients.upstream import Upstream
from tests.stores.fixtures import object_stores as object_stores

TABLE = Path("build", "reports", "clients.txt")
_LEDGER = pytest.StashKey[Ledger]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the table."""
    config.stash[_LEDGER] = Ledger()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table, and leave it with the reports."""
    table = config.stash[_LEDGER].table()
    if not table:
        return
    terminalreporter.section("clients")
    terminalreporter.line(table)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table + "\n")


@dataclass(frozen=True)
class Trial:
    """What every test needs."""

    clients: dict[str, Client]
    registry: Registry
    source: Source
    ledger: Ledger

    def push(self, client: str, kind: Kind, image: str) -> str:
        """Push to the registry and return the digest."""
        return self.clients[client].push(self.source, kind, f"{self.registry.push}/{image}")

    def pull(self, client: str, image: str) -> Pulled:
        """Pull from the registry."""
        return self.clients[client].pull(f"{self.registry.pull}/{image}")


@pytest.fixture
def trial(
    pytestconfig: pytest.Config, clients: dict[str, Client], registry: Registry, source: Source
) -> Trial:
    """The clients, a registry, images, and where to write down what a client did."""
    return Trial(clients, registry, source, pytestconfig.stash[_LEDGER])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what lasts as long as the tests.

    Refused on the machine itself: the clients write below /etc and /var.
    """
    if not os.environ.get("BUILDSET_ENCLOSED"):
        pytest.fail("run these tests by `.venv/bin/nox -s clients`, which encloses them", False)
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def source(folder: Path) -> Source:
    """Images to push."""
    # An overlay on the overlay of the enclosed machine does not work.
    Path("/etc/containers/storage.conf").write_text(
        '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\n'
        'graphroot = "/var/lib/containers/storage"\n'
    )
    return make_source(folder / "source")


@pytest.fixture(scope="session")
def public(folder: Path) -> Iterator[Upstream]:
    """The registry upstream, as quay.io and as Docker Hub."""
    with upstream.running(folder) as made:
        yield made


@pytest.fixture(scope="session")
def registry(folder: Path, public: Upstream) -> Iterator[Registry]:
    """A registry with two endpoints, on the ports that it has by default."""
    options = ["--host", "192.0.2.1", "--upstreams-file", str(public.settings())]
    with running(folder / "registry", *options) as made:
        yield made


@pytest.fixture(scope="session")
def single(folder: Path, public: Upstream) -> Iterator[Registry]:
    """A registry with one endpoint, which has a name."""
    options = ["--host", "registry.example.org", "--single-port", "--port", "5002"]
    with running(folder / "single", *options, "--upstreams-file", public.settings()) as made:
        yield made


@pytest.fixture(scope="session")
def clients(
    pytestconfig: pytest.Config, folder: Path, source: Source, registry: Registry
) -> Iterator[dict[str, Client]]:
    """All clients, logged in to the push endpoint and to nothing else."""
    storages = [Storage(name, folder) for name in ("podman", "buildah")]
    made: list[Client] = [Skopeo(folder), *storages, Docker(), CurrentDocker()]
    with (
        daemon.running(folder / "dockerd.log", mirror=registry.pull),
        daemon.running_current(folder, mirror=registry.pull),
    ):
        for client in made:
            login(client, registry.push, registry.facts["username"], registry.facts["password"])
            pytestconfig.stash[_LEDGER].introduce(client.name, client.version())
        yield {client.name: client for client in made}
