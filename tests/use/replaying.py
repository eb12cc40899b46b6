# SPDX-License-Identifier: Apache-2.0
"""The registry of the lab as its host's commands see it: its report, and a lock that it replays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.lab.lab import Lab

ROOT = "/var/lib/buildset-registry"
_PLACE = "/root/replay"
LOCK = f"{_PLACE}/images.lock.json"


class RegistryHost:
    """The host of the registry; ``command`` is the program there."""

    def __init__(self, lab: Lab, command: str) -> None:
        self._lab = lab
        self._command = command

    def report(self) -> dict[str, Any]:
        """Return the report."""
        tree: dict[str, Any] = json.loads(self._run("report", "--json"))
        return tree

    def log(self) -> str:
        """Return what the registry said."""
        return self._shell(f"cat {ROOT}/log/*.log")

    @contextmanager
    def replaying(self, images: Mapping[str, str], port: int) -> Iterator[None]:
        """Replay these images, by their digests, from a folder, with nothing in the store.

        Strictly: what is not among them is refused.
        """
        self._shell(f"rm -rf {_PLACE}; mkdir {_PLACE}")
        lock = json.loads(self._run("lock"))
        lock["images"] = {name: lock["images"][name] for name in images}
        found = {name: image["digest"] for name, image in lock["images"].items()}
        assert found == dict(images), found
        self._shell(f"cat >{LOCK}", json.dumps(lock))
        copied = f"--from 127.0.0.1:{port} --source-ca {ROOT}/cert.pem --lock {LOCK}"
        self._shell(f"{self._command} copy {copied} oci:{_PLACE}/layout")
        self._run("down")
        self._shell(f"mv {ROOT}/data {_PLACE}/data")
        try:
            images_of = f"oci:{_PLACE}/layout"
            self._run("up", "--lock", LOCK, "--lock-mode", "strict", "--images", images_of)
            yield
        finally:
            self._run("down")
            self._shell(f"rm -rf {ROOT}/data; mv {_PLACE}/data {ROOT}/data")
            self._run("up", "--no-lock")

    def _run(self, verb: str, *words: str) -> str:
        return self._shell(" ".join((self._command, verb, "--root", ROOT, *words)))

    def _shell(self, script: str, given: str = "") -> str:
        words = self._lab.command("registry", "sh", "-c", script)
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout
