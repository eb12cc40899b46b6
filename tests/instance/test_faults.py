# SPDX-License-Identifier: Apache-2.0
"""What goes wrong: each mistake is one line, and the next ``up`` does not trip over it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.instance.conftest import Desk
from tests.ports import free_port
from tests.waiting import wait_until


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something else listens on."""
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104  # as a server would
        yield other.getsockname()[1]


def test_a_taken_port_is_named(desk: Desk, taken: int) -> None:
    """The next ``up``, on free ports, works."""
    ports = ["--port", taken, "--push-port", desk.ports[1]]
    told = desk.refused("up", "--host", "127.0.0.1", "--supervisor", "process", *ports)
    assert f"port {taken}" in told
    assert "stop what uses it or choose another port" in told
    assert desk.processes() == []
    desk.up()


def test_a_change_that_fails_leaves_the_registry_as_it_was(desk: Desk, taken: int) -> None:
    """A registry that ran goes on with the settings that worked."""
    facts = desk.up()["facts"]
    before = (desk.root / "config.yaml").read_text()
    assert f"port {taken}" in desk.refused("up", "--supervisor", "process", "--port", taken)
    assert (desk.root / "config.yaml").read_text() == before
    wait_until(lambda: desk.status()["answers"], "it answers")
    assert desk.ask(facts).status == 200


def test_one_port_cannot_be_two(desk: Desk) -> None:
    """The message says which option makes one endpoint of two."""
    port = free_port()
    assert "--single-port" in desk.refused("up", "--port", port, "--push-port", port)


def test_a_root_that_cannot_be_written_is_named(desk: Desk) -> None:
    """The folder is named, and nothing is made."""
    desk.root.write_text("a file")
    told = desk.refused("up")
    assert str(desk.root) in told
    assert "--root" in told
    desk.root.unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "unknown key colour"),
        ({"auth": {"token_seconds": "many"}}, "auth.token_seconds must be a number, not 'many'"),
        ({"endpoints": {"pull": {"port": 99999}}}, "endpoints.pull.port must be a port"),
        ({"tls": {"certificate": "none.pem", "key": "server.key"}}, "none.pem"),
        ({"tls": {"certificate": "server.pem", "key": "htpasswd"}}, "unencrypted key"),
        ({"log": {"file": "/proc/nowhere/log"}}, "/proc/nowhere"),
        ({"auth": {"htpasswd": "gone"}}, "gone"),
        ({"storage": "config.yaml"}, "as storage"),
    ],
)
def test_a_wrong_configuration_is_one_line(desk: Desk, change: dict[str, Any], said: str) -> None:
    """``serve`` says what is wrong and ends with 2; so does ``up``."""
    desk.up()
    desk.run("down")
    path = desk.root / "config.yaml"
    kept = path.read_text()
    tree = yaml.safe_load(kept)
    path.write_text(yaml.safe_dump({**tree, **change}))
    argv = [sys.executable, "-m", "buildset_registry", "serve", "--config", str(path)]
    served = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert served.returncode == 2
    assert said in served.stderr
    assert served.stderr.count("\n") == 1
    assert said in desk.refused("up", "--supervisor", "process")
    path.write_text(kept)
    desk.up()


def test_words_that_make_no_command_are_one_line(desk: Desk) -> None:
    """A mistake on the command line says where help is."""
    assert "see buildset-registry up --help" in desk.refused("up", "--port", "many")
    assert "neither a host name nor an address" in desk.refused("up", "--host", "a b")
    assert "allowed_networks" in desk.refused("up", "--allow-network", "everywhere")
    assert "must be a list of upstreams" in desk.refused("up", "--upstreams-file", "-", stdin="a")
    assert "--supervisor systemd needs root" in desk.refused("up", "--supervisor", "systemd")


def test_purge_refuses_what_is_no_registry(desk: Desk) -> None:
    """A wrong ``--root`` does not cost anybody a folder."""
    desk.root.mkdir()
    (desk.root / "precious").touch()
    assert "is not the folder of a registry" in desk.refused("down", "--purge")
    assert (desk.root / "precious").exists()


def test_purge_leaves_what_is_not_the_registry_s(desk: Desk) -> None:
    """Somebody may have named the folder of a project, which has a folder ``data`` as well."""
    (desk.root / "data").mkdir(parents=True)
    precious = [desk.root / "thesis.tex", desk.root / "data" / "measured"]
    for path in precious:
        path.write_text("years of work")
    desk.up()
    (desk.root / ".cert.pem.half12").touch()
    done = desk.run("down", "--purge", "--json")
    assert (done.returncode, done.stdout) == (0, '{"changed": true}\n')
    assert "stays, with what is not the registry's: data, thesis.tex" in done.stderr
    assert sorted(path.name for path in desk.root.iterdir()) == ["data", "thesis.tex"]
    assert [path.read_text() for path in precious] == ["years of work"] * 2
    assert "is not the folder of a registry" in desk.refused("down", "--purge")


def test_a_server_that_is_killed_is_started_again(desk: Desk) -> None:
    """The supervisor sees to it; what was acknowledged is there."""
    facts = desk.up()["facts"]
    digest = push_blob(desk, facts, b"acknowledged")
    supervisor, server = desk.processes()
    desk.kill(server)
    wait_until(lambda: desk.status()["answers"], "it answers")
    assert desk.processes()[0] == supervisor
    assert desk.ask(facts, f"/v2/app/blobs/{digest}").content == b"acknowledged"
    log = (desk.root / "log" / "registry.log").read_text()
    assert log.count("the server before this one was killed by signal 9") == 1


def test_a_push_can_go_on_after_everything_was_killed(desk: Desk) -> None:
    """``up`` again: what was acknowledged is there, and the push can be repeated."""
    facts = desk.up()["facts"]
    digest = push_blob(desk, facts, b"acknowledged")
    started = desk.ask(facts, "/v2/app/blobs/uploads/", "POST", which="push_", login=True)
    location = started.headers["location"]
    desk.ask(facts, location, "PATCH", b"half of", which="push_", login=True)
    desk.kill(*desk.processes())
    assert desk.up()["changes"] == ["started"]
    assert desk.ask(facts, f"/v2/app/blobs/{digest}").content == b"acknowledged"
    where = desk.ask(facts, location, which="push_", login=True)
    assert where.status == 204
    assert where.headers["range"] == "0-6"
    push_blob(desk, facts, b"half of it")


def test_a_server_whose_supervisor_was_killed_can_be_ended(desk: Desk) -> None:
    """The server holds the lock itself, so it is seen, and ended with its group."""
    facts = desk.up()["facts"]
    supervisor, _ = desk.processes()
    desk.kill(supervisor)
    assert desk.status()["running"]
    assert desk.up()["changed"] is False
    assert desk.ask(facts).status == 200
    desk.run("down")
    assert desk.processes() == []


def test_running_requests_are_finished(desk: Desk) -> None:
    """SIGTERM lets a push that is under way end with its 201."""
    facts = desk.up()["facts"]
    content = os.urandom(1 << 20)
    with SlowPush(desk, facts, content) as push:
        ended = subprocess.Popen(
            [sys.executable, "-m", "buildset_registry", "down", "--root", str(desk.root)],
            stdout=subprocess.DEVNULL,
        )
        log = desk.root / "log" / "registry.log"
        wait_until(lambda: "running requests are finished first" in log.read_text(), "it ends")
        assert push.finish() == 201
    assert ended.wait(60) == 0
    desk.up()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert desk.ask(facts, f"/v2/app/blobs/{digest}").content == content


def test_no_password_is_among_the_processes(desk: Desk) -> None:
    """What every user of the machine can list holds no secret."""
    secret = "upstream-secret"
    upstreams = (
        f'[{{"name": "a.io", "url": "https://a.io", "username": "u", "password": "{secret}"}}]'
    )
    facts = desk.up("--upstreams-file", "-", stdin=upstreams)["facts"]
    for pid in desk.processes():
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{name}").read_bytes()
            assert facts["password"].encode() not in content
            assert secret.encode() not in content


def push_blob(desk: Desk, facts: dict[str, Any], content: bytes) -> str:
    """Push a blob in one request and return its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"/v2/app/blobs/uploads/?digest={digest}"
    pushed = desk.ask(facts, path, "POST", content, which="push_", login=True)
    assert pushed.status == 201, pushed.content
    return digest


class SlowPush:
    """A push of which the first half has been sent."""

    def __init__(self, desk: Desk, facts: dict[str, Any], content: bytes) -> None:
        import http.client
        import ssl
        from base64 import b64encode

        self._content = content
        context = ssl.create_default_context(cadata=facts["cert"])
        self._connection = http.client.HTTPSConnection(
            facts["push_host"], facts["push_port"], timeout=60, context=context
        )
        digest = hashlib.sha256(content).hexdigest()
        pair = b64encode(f"{facts['username']}:{facts['password']}".encode()).decode()
        self._connection.putrequest("POST", f"/v2/app/blobs/uploads/?digest=sha256:{digest}")
        self._connection.putheader("Authorization", f"Basic {pair}")
        self._connection.putheader("Content-Length", str(len(content)))
        self._connection.endheaders(content[: len(content) // 2])

    def __enter__(self) -> SlowPush:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def finish(self) -> int:
        """Send the rest and return the status of the answer."""
        self._connection.send(self._content[len(self._content) // 2 :])
        return self._connection.getresponse().status


def test_a_terminal_that_closes_does_not_end_the_registry(desk: Desk) -> None:
    """The process belongs to a session of its own."""
    desk.up()
    supervisor, _ = desk.processes()
    assert os.getsid(supervisor) == supervisor
    os.kill(supervisor, signal.SIGCONT)
    assert desk.status()["running"]


def test_somebody_who_asks_whether_it_runs_does_not_keep_it_from_starting(desk: Desk) -> None:
    """``status`` takes the lock for a moment, in which the watchdog may be about to take it."""
    desk.up()
    desk.run("down")
    with (desk.root / "run" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        release = threading.Timer(0.4, fcntl.flock, (lock, fcntl.LOCK_UN))
        release.start()
        desk.up()
        release.join()
