# SPDX-License-Identifier: Apache-2.0
"""``copy`` as people type it: what it prints, what it refuses, and what it does after a kill."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.instance.conftest import Desk
from tests.unit.transfer.fake_registry import (
    FakeRegistry,
    Handler,
    digest_of,
    serving,
    wrong_bytes,
)


class Machine:
    """A registry, a login for it, and a home of its own for the command."""

    def __init__(self, desk: Desk, folder: Path, *words: object, **options: Any) -> None:
        self.facts = desk.up(*words, **options)["facts"]
        self.data = desk.root / "data"
        self.home = folder / "home"
        self.push = f"127.0.0.1:{self.facts['push_port']}"
        self.pull = f"127.0.0.1:{self.facts['port']}"
        self.ca = folder / "ca.pem"
        self.ca.write_text(self.facts["cert"])
        pair = f"{self.facts['username']}:{self.facts['password']}".encode()
        self.log_in({"auth": base64.b64encode(pair).decode()})
        hidden = {"XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"}
        self.environment = {key: one for key, one in os.environ.items() if key not in hidden}
        self.environment |= {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home)}

    def log_in(self, entry: dict[str, str]) -> None:
        """Keep a login as docker does."""
        file = self.home / ".docker" / "config.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"auths": {self.push: entry}}))

    def command(self, *words: str) -> list[str]:
        """Return the command."""
        trust = ["--source-ca", str(self.ca), "--dest-ca", str(self.ca)]
        return [sys.executable, "-m", "buildset_registry", "copy", *trust, *words]

    def copy(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self.environment, timeout=60
        )

    def wait_for_upload(self, size: int) -> None:
        """Wait until so much of an upload has arrived."""
        deadline = time.monotonic() + 60
        while not any(file.stat().st_size >= size for file in self.data.rglob("_uploads/*/data")):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def machine(desk: Desk, tmp_path: Path) -> Machine:
    """A machine with a registry."""
    return Machine(desk, tmp_path)


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    """A registry that images come from."""
    with serving() as registry:
        yield registry


def test_an_image_is_copied_with_one_line_to_tell(machine: Machine, source: FakeRegistry) -> None:
    """From where, to where, as which digest, and how much was sent."""
    raw = source.add_image("app", "v1", layers=(b"x" * 5000,))
    done = machine.copy(source.image("app:v1"), f"{machine.push}/quay.io/org/app:v1")
    assert (done.returncode, done.stderr) == (0, "")
    target = f"{machine.push}/quay.io/org/app:v1"
    assert done.stdout == f"{source.url}/app:v1 -> {target} {digest_of(raw)}: 5.0 kB sent\n"
    again = machine.copy(f"{machine.pull}/quay.io/org/app:v1", target)
    assert again.stdout.endswith(": 0 bytes sent, 5.0 kB there already\n")


def test_docker_s_token_instead_of_the_password_copies(
    desk: Desk, tmp_path: Path, source: FakeRegistry
) -> None:
    """``docker login`` keeps one where the registry gives it out, and no password."""
    words = ("--single-port", "--port", desk.ports[0], "--upstreams-file", "-")
    machine = Machine(desk, tmp_path, *words, stdin="[]")
    answer = httpx.get(
        f"https://{machine.push}/token",
        params={"offline_token": "true"},
        auth=(machine.facts["username"], machine.facts["password"]),
        verify=ssl.create_default_context(cadata=machine.facts["cert"]),
    )
    nobody = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
    machine.log_in({"auth": nobody, "identitytoken": answer.json()["refresh_token"]})
    source.add_image("app", "v1", layers=(b"x" * 5000,))
    done = machine.copy(source.image("app:v1"), f"{machine.push}/app:v1")
    assert (done.returncode, done.stderr) == (0, "")
    machine.log_in({"auth": nobody, "identitytoken": "another"})
    refused = machine.copy(source.image("app:v1"), f"{machine.push}/app:v2")
    assert refused.returncode == 1
    assert "give other credentials with the right to do that" in refused.stderr


def test_wrong_bytes_of_a_source_are_never_tagged(machine: Machine, source: FakeRegistry) -> None:
    """The registry, which hashes what it is pushed, refuses them; the copy finds out why."""
    layer = bytes(range(256)) * (3 << 12)
    source.add_image("app", "v1", layers=(layer,))
    source.fail("GET", digest_of(layer), wrong_bytes, times=99)
    done = machine.copy(source.image("app:v1"), f"{machine.push}/app:v1")
    assert done.returncode == 1
    assert f"the source sent other bytes than {digest_of(layer)} stands for" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(source.asked("GET", digest_of(layer))) == 2
    assert not list(machine.data.rglob("_manifests/tags/*"))
    assert not list(machine.data.rglob("_uploads/*/data"))


def test_a_dry_run_tells_what_would_be_sent(machine: Machine, source: FakeRegistry) -> None:
    """And sends nothing."""
    source.add_image("app", "v1", layers=(b"x" * 5000,))
    words = (source.image("app:v1"), f"{machine.push}/app:v1")
    assert machine.copy("--dry-run", *words).stdout.endswith(": 5.0 kB to send\n")
    assert machine.copy("--dry-run", *words).stdout.endswith(": 5.0 kB to send\n")


def test_json_is_one_object_with_sums(machine: Machine, source: FakeRegistry) -> None:
    """For scripts; an image that fails is in it with its error, and costs the exit code."""
    source.add_image("app", "v1", layers=(b"x" * 5000,))
    words = [source.image(f"app:{tag}") for tag in ("v1", "none")]
    done = machine.copy("--json", *words, f"{machine.push}/app")
    tree: dict[str, Any] = json.loads(done.stdout)
    assert set(tree) == {"images", "moved", "mounted", "skipped"}
    assert [bool(one["error"]) for one in tree["images"]] == [False, True]
    assert set(tree["images"][0]) == {
        *("source", "destination", "digest", "media_type", "platforms"),
        *("referrers", "moved", "mounted", "skipped", "error"),
    }
    assert tree["images"][0]["platforms"] == ["linux/amd64"]
    assert done.returncode == 1
    assert re.fullmatch(
        r"buildset-registry: http://\S+/app:none: .* has no none; .*\n", done.stderr
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quay.io/app:" + "x" * 129, "oci:d"], "the most is 128"),
        (["Quay.io/App", "oci:d"], "names no image"),
        (["quay.io/app", "quay.io/base", "oci:d:x"], "leave out the tag"),
        (["quay.io/app"], "name an image and then where to copy it"),
        (["--platform", "amd64", "quay.io/app", "oci:d"], "is no platform"),
        (["--source-ca", "/nonexistent", "quay.io/app", "oci:d"], "/nonexistent cannot be read"),
        (["--source-ca", "/dev/null", "quay.io/app", "oci:d"], "no certificate in PEM"),
        (["--authfile", "/nonexistent", "quay.io/app", "oci:d"], "/nonexistent cannot be read"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(words: list[str], told: str) -> None:
    """In one line, before anything is asked of a registry."""
    command = [sys.executable, "-m", "buildset_registry", "copy", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_login_the_line_says_what_to_do(machine: Machine, source: FakeRegistry) -> None:
    """Give one."""
    source.add_image("app", "v1")
    (machine.home / ".docker" / "config.json").unlink()
    done = machine.copy(source.image("app:v1"), f"{machine.push}/app:v1")
    assert done.returncode == 1
    assert "answers 401" in done.stderr
    assert "give a user name and a password" in done.stderr


def test_a_bar_is_drawn_at_a_terminal(machine: Machine, source: FakeRegistry) -> None:
    """And gone at the end."""
    source.add_image("app", "v1", layers=tuple(bytes([one]) * 3_000_000 for one in range(8)))
    main, side = pty.openpty()
    words = machine.command(source.image("app:v1"), f"{machine.push}/app:v1")
    with subprocess.Popen(words, stderr=side, stdout=subprocess.PIPE, env=machine.environment):
        pass
    os.close(side)
    drawn = ""
    with suppress(OSError):  # which is the end
        while piece := os.read(main, 1 << 16):
            drawn += piece.decode()
    os.close(main)
    assert "[" in drawn
    assert drawn.endswith("\r\x1b[K")


def copy_again(machine: Machine, source: FakeRegistry, layer: bytes) -> float:
    """Kill a copy at 60 % of its layer; returns what the next one sends, as a part of it."""
    source.add_image("app", "v1", layers=(layer,))
    sent, over = threading.Event(), threading.Event()

    def stall(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(layer)))
        handler.end_headers()
        handler.wfile.write(memoryview(layer)[: len(layer) * 6 // 10])
        sent.set()
        over.wait(60)
        handler.close_connection = True
        return True

    source.fail("GET", f"blobs/{digest_of(layer)}", stall)
    words = ("--json", source.image("app:v1"), f"{machine.push}/app:v1")
    with subprocess.Popen(machine.command(*words), env=machine.environment) as process:
        assert sent.wait(60)
        machine.wait_for_upload(len(layer) * 57 // 100)
        process.send_signal(signal.SIGKILL)
    over.set()
    done = machine.copy(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(machine.copy(*words).stdout)["moved"] == 0
    assert not list((machine.home / ".cache" / "buildset-registry" / "uploads").iterdir())
    return float(json.loads(done.stdout)["moved"]) / len(layer)


def test_a_copy_that_was_killed_sends_the_rest_when_it_is_run_again(
    machine: Machine, source: FakeRegistry
) -> None:
    """At 60 % of a blob: under 45 % is sent; a third time, nothing."""
    assert copy_again(machine, source, os.urandom(1 << 20) * 24) < 0.45


def test_a_copy_may_be_killed_at_any_moment(machine: Machine, source: FakeRegistry) -> None:
    """Nothing is tagged of which a part is missing; the copy that is run to its end ends well."""
    layers = tuple(os.urandom(200_000) for _one in range(6))
    raw = source.add_image("app", "v1", layers=layers)
    words = ("--json", source.image("app:v1"), f"{machine.push}/app:v1")
    trust = ssl.create_default_context(cadata=machine.facts["cert"])
    login = machine.facts["username"], machine.facts["password"]
    registry = httpx.Client(base_url=f"https://{machine.push}/v2/app", verify=trust, auth=login)
    for moment in (1, 2, 4, 7):
        reached, over, asked = threading.Event(), threading.Event(), itertools.count(1)
        source.fail("GET", "/v2/", _stall_at(moment, asked, reached, over), times=99)
        with subprocess.Popen(machine.command(*words), env=machine.environment) as process:
            assert reached.wait(60)
            process.kill()
        over.set()
        source.faults.clear()
        assert registry.get("/manifests/v1").status_code == 404
    done = machine.copy(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert registry.get("/manifests/v1").content == raw
    for layer in layers:
        assert registry.get(f"/blobs/{digest_of(layer)}").content == layer
    registry.close()


def _stall_at(
    moment: int, asked: Iterator[int], reached: threading.Event, over: threading.Event
) -> Callable[[Handler], bool]:
    """Answer no more from a request on, until the test is over."""

    def act(handler: Handler) -> bool:
        if next(asked) < moment:
            return False
        reached.set()
        over.wait(60)
        handler.close_connection = True
        return True

    return act


def test_a_copy_that_is_interrupted_ends_at_once(machine: Machine, source: FakeRegistry) -> None:
    """Whatever it waits for; without a traceback."""
    source.add_image("app", "v1", layers=(b"x" * 9_000_000,))
    reached, over = threading.Event(), threading.Event()

    def hang(handler: Handler) -> bool:
        reached.set()
        over.wait(60)
        return True

    source.fail("GET", "blobs", hang, times=9)
    words = machine.command(source.image("app:v1"), f"{machine.push}/app:v1")
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env=machine.environment
    ) as process:
        assert reached.wait(60)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=30)[1]
    over.set()
    assert (process.returncode, told) == (130, "")
