# SPDX-License-Identifier: Apache-2.0
"""Pages of manifests that are as large as they may be hold nobody else up."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from buildset_registry.auth.access import Policy, Role
from buildset_registry.http import pages
from buildset_registry.http.request import Request
from buildset_registry.http.response import Bytes
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


async def test_an_index_of_many_images_holds_nobody_up() -> None:
    listed = [
        {"mediaType": "a/b", "digest": f"sha256:{number:064x}", "size": 1}
        for number in range(LISTED)
    ]
    tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    registry = Registry(MemoryStore())
    raw = json.dumps(tree, separators=(",", ":")).encode()
    await registry.push_manifest(RepositoryName("app"), [Tag("all")], raw)
    context: Any = SimpleNamespace(registry=registry, policy=Policy(endpoint=Role.PUSH))
    held, answer = await longest_hold(pages.repository(request(), context))
    assert isinstance(answer.body, Bytes)
    page = answer.body.content
    assert held < 0.05
    assert len(page) < 500_000
    assert f"{LISTED - 500:,} more are not shown" in page.decode()
