# SPDX-License-Identifier: Apache-2.0
"""Several processes of one registry behind one port, each of which may be killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from buildset_registry.errors import ConfigError
from buildset_registry.server.sockets import open_listener

from tests.ports import free_port
from tests.stores.fixtures import ObjectStores
from tests.stores.replicas import PASSWORD, USER, Replica, Replicas
from tests.stores.test_replicas import UPLOADS, digest_of, pull
from tests.waiting import wait_until

WORKERS = 2


def children_of(replica: Replica) -> list[int]:
    """Return the process numbers of the workers."""
    pid = replica.process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, object_stores: ObjectStores) -> Replicas:
    minio = object_stores.minio
    return Replicas(
        tmp_path_factory.mktemp("workers"),
        {"s3": minio.settings(minio.bucket())},
        workers=WORKERS,
        metrics={"port": free_port()},
    )


@pytest.fixture(scope="module")
def registry(replicas: Replicas) -> Iterator[Replica]:
    """A registry of several processes that all serve, for tests that leave it so."""
    with running(replicas) as replica:
        yield replica


@contextmanager
def running(replicas: Replicas) -> Iterator[Replica]:
    """Run a registry until all of its processes serve."""
    with replicas.one() as replica:
        wait_until(lambda: f"{WORKERS} workers serve" in replica.log.read_text())
        yield replica


def ask(replica: Replica, path: str) -> httpx.Response:
    """Send a request on a connection of its own, which any worker may take."""
    url = replica.client.base_url.join(path)
    return httpx.get(url, auth=(USER, PASSWORD), trust_env=False)


def samples(replicas: Replicas, name: str) -> dict[str, float]:
    """Return the values of a metric, by labels."""
    url = f"http://127.0.0.1:{replicas.settings['metrics']['port']}/metrics"
    text = httpx.get(url, trust_env=False).text
    found = re.findall(rf"^buildset_registry_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_a_worker_that_is_killed_is_missed_by_nobody(replicas: Replicas, registry: Replica) -> None:
    """No connection is refused, another one takes its place, and the figures tell of it."""
    victims = children_of(registry)
    assert len(victims) == WORKERS
    with ThreadPoolExecutor(4) as pool:
        for victim in victims:
            sent = [pool.submit(ask, registry, "/v2/_catalog") for _ in range(10)]
            os.kill(victim, signal.SIGKILL)
            broken = [one for one in sent if isinstance(one.exception(), httpx.ConnectError)]
            assert not broken, broken[0].exception()
            assert ask(registry, "/v2/_catalog").status_code == 200
    wait_until(lambda: sum(samples(replicas, "worker_up").values()) == WORKERS)
    assert set(children_of(registry)).isdisjoint(victims)
    assert sum(samples(replicas, "worker_restarts_total").values()) >= WORKERS
    assert registry.log.read_text().count("was killed by signal 9; it is started again") == WORKERS


def test_the_requests_of_all_workers_are_counted(replicas: Replicas, registry: Replica) -> None:
    """Whichever is asked tells of all, by the label ``worker``; the store is told of once."""
    route = 'endpoint="single"'
    before = sum(v for k, v in samples(replicas, "requests_total").items() if route in k)
    number = 60
    with ThreadPoolExecutor(8) as pool:
        assert {
            one.status_code for one in pool.map(ask, [registry] * number, ["/v2/"] * number)
        } == {200}
    rows = {k: v for k, v in samples(replicas, "requests_total").items() if route in k}
    assert sum(rows.values()) - before == number
    assert len({re.findall('worker="([0-9]+)"', key)[0] for key in rows}) > 1, rows
    url = f"http://127.0.0.1:{replicas.settings['metrics']['port']}"
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    assert text.count("\nbuildset_registry_storage_used_bytes ") == 1
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"status": "ok"}


def test_a_session_and_a_token_of_one_worker_are_good_at_all(registry: Replica) -> None:
    """Each request on a connection of its own: most are taken by another worker."""
    base = registry.client.base_url
    answer = ask(registry, "/token?service=buildset-registry&scope=repository:org/app:push,pull")
    login = {"Authorization": f"Bearer {answer.json()['token']}", "Connection": "close"}
    content = os.urandom(1024 * 1024)
    with httpx.Client(base_url=base, headers=login, trust_env=False) as client:
        for _ in range(12):
            assert client.get("/v2/").status_code == 200
        location = client.post(UPLOADS).headers["location"]
        for start in range(0, len(content), 256 * 1024):
            sent = client.patch(location, content=content[start : start + 256 * 1024])
            assert sent.status_code == 202, sent.text
            location = sent.headers["location"]
        done = client.put(location, params={"digest": digest_of(content)})
        assert done.status_code == 201, done.text
    assert pull(registry, digest_of(content)) == content


def test_workers_end_with_their_parent(tmp_path: Path, replicas: Replicas) -> None:
    """After a kill -9 the port is free at once: who starts it again finds it so."""
    with running(Replicas(tmp_path, replicas.settings["storage"], workers=WORKERS)) as registry:
        workers = children_of(registry)
        registry.kill()
        wait_until(lambda: is_free(registry.client.base_url.port or 0))
        wait_until(lambda: not any(alive(pid) for pid in workers))


def is_free(port: int) -> bool:
    """Tell whether a registry could listen on a port."""
    try:
        open_listener("127.0.0.1", port, "single", 30).close()
    except ConfigError:
        return False
    return True


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_signals_reach_all(tmp_path: Path, replicas: Replicas) -> None:
    """A new certificate after SIGHUP; after SIGTERM a body that is on its way still arrives."""

    def issue(authority: trustme.CA) -> None:
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")

    old, new = trustme.CA(), trustme.CA()
    issue(old)
    context = ssl.create_default_context()
    old.configure_trust(context)
    tls = {"certificate": "server.pem", "key": "server.pem"}
    storage = replicas.settings["storage"]
    with running(Replicas(tmp_path, storage, context, workers=WORKERS, tls=tls)) as replica:
        issue(new)
        replica.process.send_signal(signal.SIGHUP)
        wait_until(lambda: replica.log.read_text().count("serves a new certificate") == WORKERS)
        renewed = ssl.create_default_context()
        new.configure_trust(renewed)
        for _ in range(4 * WORKERS):
            port = replica.client.base_url.port
            with socket.create_connection(("127.0.0.1", port or 0)) as plain:
                renewed.wrap_socket(plain, server_hostname="127.0.0.1").close()
        new.configure_trust(context)
        drain(replica)


def drain(replica: Replica) -> None:
    """Stop a registry while a body is on its way to it."""
    content = os.urandom(64 * 1024)

    def slowly() -> Iterator[bytes]:
        yield content[:1000]
        wait_until(lambda: "POST" in replica.log.read_text())
        replica.process.send_signal(signal.SIGTERM)
        wait_until(lambda: replica.log.read_text().count("stopping:") == WORKERS)
        yield content[1000:]

    location = replica.client.post(UPLOADS).headers["location"]
    done = replica.client.put(location, params={"digest": digest_of(content)}, content=slowly())
    assert done.status_code == 201, done.text
    assert replica.process.wait(60) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"storage": "data"}, "workers: 2 need a store that several processes may use at once"),
        ({"storage": "memory"}, "or leave workers out"),
        ({"ledger": {"folder": "ledger"}}, "leave it out, and workers keep"),
        ({"workers": 0}, "workers must be from 1 to 256"),
        ({"storage": {"s3": {"bucket": "b", "regionendpoint": "http://:9"}}}, "is no URL"),
    ],
)
def test_what_workers_cannot_serve_is_one_line(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """However many of them there were to be, and nothing runs afterwards."""
    keys = {"accesskey": "a", "secretkey": "b", "region": "us-east-1"}
    for service in settings.values():
        if isinstance(service, dict) and "s3" in service:
            service["s3"].update(keys)
    given = {"storage": {"s3": {"bucket": "b", **keys}}, "workers": WORKERS, **settings}
    done = Replicas(tmp_path, given.pop("storage"), **given).run("serve")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
