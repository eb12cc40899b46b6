# SPDX-License-Identifier: Apache-2.0
"""A disk that fails or is slow to sync: nothing is acknowledged that is not on it.

After an fsync that failed, the kernel holds what was not written for written: the next one says
that all is well.
"""

import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from buildset_registry.oci.descriptor import OCI_MANIFEST

from tests.api.configurations import on_disk, only
from tests.api.harness import Registry, digest_of

pytestmark = only(on_disk, why="a registry in memory syncs nothing")

LARGE = bytes(range(256)) * 800
DIGEST = digest_of(LARGE)
BLOB = f"/v2/org/app/blobs/{DIGEST}"
UPLOADS = "/v2/org/app/blobs/uploads/"


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """Let the first sync fail of what a path ends with; return what failed."""

    def begin(name: str, end: str) -> list[str]:
        failed: list[str] = []
        real = getattr(os, name)

        def sync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if path.endswith(end) and not failed:
                failed.append(path)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, name, sync)
        return failed

    return begin


def push_large(registry: Registry) -> httpx.Response:
    location = registry.push.post(UPLOADS).headers["location"]
    return registry.push.put(location, params={"digest": DIGEST}, content=LARGE)


def test_what_a_sync_refused_has_to_be_sent_again(
    registry: Registry, fail_once: Callable[[str, str], list[str]]
) -> None:
    location = registry.push.post(UPLOADS).headers["location"]
    location = registry.push.patch(location, content=LARGE).headers["location"]
    failed = fail_once("fsync", "/data")
    assert registry.push.put(location, params={"digest": DIGEST}).status_code == 500
    assert failed
    assert registry.push.put(location, params={"digest": DIGEST}).status_code == 404
    assert registry.push.get(location).status_code == 404
    assert registry.push.head(BLOB).status_code == 404
    assert push_large(registry).status_code == 201
    assert registry.pull.get(BLOB).content == LARGE


def test_a_sync_that_fails_while_a_chunk_comes_ends_the_upload(
    registry: Registry, fail_once: Callable[[str, str], list[str]]
) -> None:
    """More than waits for the disk: it is brought there while it comes."""
    failed = fail_once("fdatasync", "/data")
    location = registry.push.post(UPLOADS).headers["location"]
    assert registry.push.patch(location, content=bytes(40 << 20)).status_code == 500
    assert failed
    assert registry.push.get(location).status_code == 404


@pytest.mark.parametrize("end", [DIGEST[7:], DIGEST[7:9], "/sha256"])
def test_a_blob_whose_folder_was_not_synced_is_made_again(
    registry: Registry, fail_once: Callable[[str, str], list[str]], end: str
) -> None:
    failed = fail_once("fsync", end)
    assert push_large(registry).status_code == 500
    assert failed
    assert registry.push.head(BLOB).status_code == 404
    folders = registry.storage / f"docker/registry/v2/blobs/sha256/{DIGEST[7:9]}"
    assert not list(folders.rglob("data"))
    assert push_large(registry).status_code == 201
    assert registry.pull.get(BLOB).content == LARGE


def test_a_small_blob_is_not_acknowledged_by_a_log_that_failed(
    registry: Registry, fail_once: Callable[[str, str], list[str]]
) -> None:
    small = digest_of(b"small")
    failed = fail_once("fdatasync", "/log/1")
    location = registry.push.post(UPLOADS).headers["location"]
    answer = registry.push.put(location, params={"digest": small}, content=b"small")
    assert answer.status_code == 500
    assert failed
    assert registry.push.head(f"/v2/org/app/blobs/{small}").status_code == 404
    assert registry.push_blob("org/app", b"small") == small


def test_nobody_is_promised_a_blob_whose_name_is_not_on_disk_yet(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait: who asks for it, mounts it, or pushes an image with it."""
    config = registry.push_blob("org/other", b"{}")
    held, go, real = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and path.endswith(DIGEST[7:]):
            held.set()
            assert go.wait(60)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(push_large(registry).status_code))
    first.start()
    assert held.wait(60)

    def mount() -> None:
        answers.append(registry.push.post("/v2/org/other/blobs/uploads/", params={"mount": DIGEST}))
        image = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "a/b", "digest": config, "size": 2},
            "layers": [{"mediaType": "a/b", "digest": DIGEST, "size": len(LARGE)}],
        }
        answers.append(registry.put_manifest("org/other", "v1", json.dumps(image).encode()))

    second = threading.Thread(target=mount)
    second.start()
    second.join(1)
    assert not any(getattr(one, "status_code", one) == 201 for one in answers)
    go.set()
    first.join()
    second.join()
    assert sorted(getattr(one, "status_code", one) for one in answers) == [201, 201, 201]
