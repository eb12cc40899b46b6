# SPDX-License-Identifier: Apache-2.0
"""Services of objects that the tests start: each in a process of its own, ended with the tests."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.error import HTTPError, URLError

from tests.ports import free_port

ACCESS, SECRET, REGION = "tests", "tests-of-buildset-registry", "us-east-1"


@dataclass(frozen=True, eq=False)
class Service:
    """A service that runs."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]


def find(tool: str) -> str:
    """Return the path of a tool of tools/go-tools."""
    cache = os.environ.get("BUILDSET_TEST_CACHE", Path.home() / ".cache/buildset-registry-tests")
    found = shutil.which(tool) or shutil.which(tool, path=f"{cache}/go/bin")
    if found is None:
        message = f"there is no {tool}; make it with tools/go-tools {tool}"
        raise FileNotFoundError(message)
    return found


def begin(
    command: Sequence[str], environment: Mapping[str, str], url: str, folder: Path
) -> Service:
    """Start a service and wait until it answers; it ends with this process."""
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=log, stderr=log, cwd=folder
    )
    log.close()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.wait)
    atexit.register(process.kill)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
        except HTTPError:
            return Service(url, folder, process)
        except (URLError, OSError):
            time.sleep(0.05)
            continue
        return Service(url, folder, process)
    message = f"{command[0]} does not answer: {(folder / 'log').read_text()[-2000:]}"
    raise RuntimeError(message)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="buildset-registry-service-"))


@lru_cache(1)
def minio() -> Service:
    """MinIO, one for each process of the tests."""
    return start_minio(new_folder())


def start_minio(folder: Path, port: int = 0) -> Service:
    port = port or free_port()
    command = [find("minio"), "server", "--quiet", "--address", f"127.0.0.1:{port}", "data"]
    environment = {
        "MINIO_ROOT_USER": ACCESS,
        "MINIO_ROOT_PASSWORD": SECRET,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    return begin(command, environment, f"http://127.0.0.1:{port}", folder)


@lru_cache(1)
def versitygw() -> Service:
    """The gateway of Versity over files, one for each process of the tests."""
    folder, port = new_folder(), free_port()
    (folder / "data").mkdir()
    command = [find("versitygw"), "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive"]
    command += ["posix", "data"]
    environment = {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    return begin(command, environment, f"http://127.0.0.1:{port}", folder)
