# SPDX-License-Identifier: Apache-2.0
"""Pages of manifests that are as large as they may be hold nobody else up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from buildset_registry.auth.access import Policy, Role
from buildset_registry.auth.rights import Rights
from buildset_registry.http import pages
from buildset_registry.http.context import UploadLimit
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes, Response
from buildset_registry.http.senders import Sender
from buildset_registry.oci.descriptor import OCI_INDEX
from buildset_registry.oci.names import RepositoryName, Tag
from buildset_registry.registry import Registry
from buildset_registry.store.memory import MemoryStore

from tests.unit.loop import longest_hold

LISTED = 30_000


def request() -> Request:
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/repositories/app",
        "query_string": b"reference=all",
        "headers": [],
        "scheme": "https",
    }
    made = Request(scope, None)  # type: ignore[arg-type]
    made.path = {"name": "app"}
    return made


def context_of(registry: Registry, uploads: UploadLimit | None = None) -> Any:
    policy = Policy(endpoint=Role.PUSH)
    return SimpleNamespace(
        registry=registry,
        policy=policy,
        uploads=uploads or UploadLimit(0),
        arriving=list,
        one_page=asyncio.Semaphore(1),
        rights=lambda identity: Rights(policy, identity),
    )


def text(answer: Response) -> str:
    assert isinstance(answer.body, Bytes)
    return answer.body.content.decode()


async def test_an_index_of_many_images_holds_nobody_up() -> None:
    listed = [
        {"mediaType": "a/b", "digest": f"sha256:{number:064x}", "size": 1}
        for number in range(LISTED)
    ]
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    registry = Registry(MemoryStore())
    raw = json.dumps(tree, separators=(",", ":")).encode()
    await registry.push_manifest(RepositoryName("app"), [Tag("all")], raw)
    await pages.front(request(), context_of(registry))  # what makes pages is loaded now
    held, answer = await longest_hold(pages.repository(request(), context_of(registry)))
    page = text(answer)
    assert held < 0.1
    assert len(page) < 500_000
    assert f"{LISTED - 500:,} more are not shown" in page


async def test_pages_of_images_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for at once: whatever reads a disk needs threads, too."""
    running: list[int] = [0]
    most = []

    async def aside(size: int, work: Callable[[], Any]) -> Any:
        running[0] += 1
        most.append(running[0])
        await asyncio.sleep(0)
        running[0] -= 1
        return work()

    registry = Registry(MemoryStore())
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    await registry.push_manifest(RepositoryName("app"), [Tag("all")], raw)
    monkeypatch.setattr(pages, "aside", aside)
    context = context_of(registry)
    await asyncio.gather(*(pages.repository(request(), context) for _number in range(5)))
    assert len(most) == 10 and max(most) == 1


async def test_transfers_are_shown_without_a_look_at_the_store() -> None:
    """To find sessions in a store is to walk all of it, and a page may be asked for at any time."""
    store = MemoryStore()
    limit, name = UploadLimit(0), RepositoryName("app")
    upload = await store.uploads.create(name)
    store.uploads.all = None  # type: ignore[assignment,method-assign]
    context = context_of(Registry(store), limit)
    shown = []
    with limit.one(name, upload, Sender("ci", "10.0.0.1")):
        shown.append(await pages.front(request(), context))
        assert limit.running == 1
    shown.append(await pages.front(request(), context))
    assert ["<td>push</td><td>app</td>" in text(one) for one in shown] == [True, False]
