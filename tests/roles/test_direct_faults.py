# SPDX-License-Identifier: Apache-2.0
"""Copies between the two registries themselves that do not come to their end."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.interop.content import Pusher
from tests.roles.conftest import MakeDesk
from tests.roles.held import HeldWay, held_way
from tests.roles.intermediate import NAME, Served, handed_on
from tests.roles.test_carrying import act, error_of
from tests.roles.test_direct import (
    BUILD,
    SECRET,
    TOKEN,
    Recorded,
    at,
    permitted,
    play,
    push,
    secret,
    serving_site,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

APP = "quay.io/org/slow"
#: The bytes of a layer that is sent as a stream.
LARGE = 3_000_000
#: What of it passes before its way is held.
PASSES = 1_000_000


class Site(NamedTuple):
    """An intermediate registry, and where its uploads are."""

    there: Served
    folder: Path

    def receives(self) -> bool:
        """Tell whether a request that sends a blob has begun."""
        return any(self.folder.rglob("_uploads/*/data"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A registry that has received nothing yet."""
    with serving_site(tmp_path) as (served,):
        yield Site(served, tmp_path)


class Pushed(NamedTuple):
    """An image with a large layer."""

    digest: str
    parts: dict[str, int]
    """The sizes of its blobs by their digests."""


def large(registry: Served, tag: str) -> Pushed:
    """Push an image whose layer is sent as a stream."""
    pusher = Pusher(registry.client)
    digest = pusher.image(APP, os.urandom(LARGE // 1000).hex().encode()[: LARGE // 1000], tag)
    return Pushed(digest, {one: len(raw) for (_name, one), raw in pusher.content.blobs.items()})


def through(way: HeldWay, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a registry as one that is reached by this way."""
    return {**facts, "port": way.port}


def test_a_node_s_module_is_killed_and_the_executor_goes_on(
    make_desk: MakeDesk, clone: Path, world: dict[str, Served], site: Site
) -> None:
    """By kill -9 in mid-blob: the log has one line, the node no process and no secret."""
    digest = large(world["first"], "killed").digest
    job = Recorded(make_desk("2.18"), clone, "2.18", host="localhost")
    playbook = job.desk.write("push.yml", [play("push_to_intermediate_registry")])
    wanted = [{"repository": APP, "tags": ["killed"]}]
    with held_way(world["first"].port, PASSES) as way, ThreadPoolExecutor(1) as aside:
        running = aside.submit(
            job.play,
            playbook,
            intermediate_registry=secret(site.there),
            buildset_registry=through(way, world["first"].facts),
            container_images=wanted,
            zuul={"build": BUILD},
            zuul_success=True,
        )
        begun = partial(_either, lambda: way.holds and site.receives(), running)
        wait_until(begun, "a blob on its way")
        (module,) = way.users() - {os.getpid()}
        os.kill(module, signal.SIGKILL)
        way.go.set()
        pushed = running.result()
    assert pushed.code == 0, pushed.output
    told = "the executor copies the images: the copy on node was ended (exit status 137)"
    assert told in pushed.output, [
        line for line in pushed.output.splitlines() if "executor copies" in line or "137" in line
    ]
    assert "MODULE FAILURE" not in pushed.output
    assert site.there.digest(APP, f"{BUILD}_killed") == digest
    assert [one["metadata"]["digest"] for one in handed_on(job)] == [digest]
    # Ansible's own folder of a module stays when that is killed: its code, and nothing of ours.
    left = [path for path in job.temporary.rglob("*") if path.is_file()]
    assert not [one for one in left if "ansible_buildset_registry_images_payload" not in str(one)]
    left += [path for path in job.desk.home.rglob("*") if path.is_file()]
    texts = [path.read_bytes().decode("latin-1") for path in left]
    assert not [one for one in texts if TOKEN.search(one) or SECRET in one]
    assert not Path(f"/proc/{module}").exists()
    again = push(
        world["first"], wanted, permitted("push", site.there, images=wanted), at(site.there)
    )
    assert (again["errors"], again["bytes"]["moved"]) == ([], 0)


def refused(there: Served, token: str) -> bool:
    """Tell whether a token is good no more."""
    asked = httpx.get(
        there.client.base_url.join("/v2/"),
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cadata=there.cert),
    )
    return asked.status_code == 401


def copied_late(
    there: Served, way: HeldWay, on_its_way: Callable[[], bool], action: str, **given: Any
) -> dict[str, Any]:
    """Copy with a token that ends while the large layer is on its way.

    A machine that is too slow for a token's life is given a token with a longer one.
    """
    what: dict[str, Any] = {key: given[key] for key in ("images", "artifacts") if key in given}
    with ThreadPoolExecutor(1) as aside:
        for seconds in (3, 12, 48):
            facts = secret(there, port=given["intermediate_registry"]["port"])
            permits: dict[str, Any] = {"seconds": seconds, "intermediate_registry": facts, **what}
            (permit,) = act(f"permit_{action}", **permits)["permits"]
            running = aside.submit(act, action, permits=[permit], **given)
            wait_until(partial(_either, on_its_way, running), "a blob on its way")
            if not running.done():
                wait_until(partial(refused, there, permit["token"]), "the end of the token")
                way.go.set()
                return running.result()
    raise AssertionError("no token lived long enough")


def _either(on_its_way: Callable[[], bool], running: Future[Any]) -> bool:
    return on_its_way() or running.done()


def has(registry: Served, digest: str) -> bool:
    """Tell whether a blob is there."""
    return registry.client.head(f"/v2/{APP}/blobs/{digest}").status_code == 200


def test_a_token_that_ends_while_a_blob_is_pushed(world: dict[str, Served], site: Site) -> None:
    """It arrives whole, the next request is refused in a line, the executor sends the rest."""
    there, first = site.there, world["first"]
    image = large(first, "late")
    config, layer = sorted(image.parts, key=lambda one: image.parts[one])
    wanted: dict[str, Any] = {"images": [{"repository": APP, "tags": ["late"]}]}
    with held_way(first.port, PASSES) as way:
        line = error_of(
            copied_late(
                there,
                way,
                lambda: way.holds and site.receives() and has(there, config),
                "push",
                **wanted,
                buildset_registry=through(way, first.facts),
                intermediate_registry=at(there),
            )
        )
    assert line.startswith(f"{APP}:late: ")
    assert "answers 401 to PUT /v2/" in line
    assert "its token has ended" in line
    (data,) = site.folder.rglob("_uploads/*/data")
    assert data.stat().st_size == image.parts[layer]
    assert there.digest(APP, f"{BUILD}_late") == ""
    facts: dict[str, Any] = {"intermediate_registry": secret(there)}
    executors = act("push", **wanted, **facts, buildset_registry=first.facts)
    assert executors["errors"] == []
    assert executors["bytes"]["moved"] == image.parts[layer]
    assert there.digest(APP, f"{BUILD}_late") == image.digest


def test_a_token_that_ends_while_a_blob_is_pulled(world: dict[str, Served], site: Site) -> None:
    """What was asked for before arrives whole: here it was all that is missing."""
    there, second = site.there, world["second"]
    image = large(there, f"{BUILD}_later")
    config = min(image.parts, key=lambda one: image.parts[one])
    with held_way(there.port, PASSES) as way:
        metadata = {"type": "container_image", "repository": APP, "tag": "later"}
        url = f"docker://{NAME}:{way.port}/{APP}:{BUILD}_later"
        result = copied_late(
            there,
            way,
            lambda: way.holds and has(second, config),
            "pull",
            artifacts=[{"name": "later", "url": url, "metadata": metadata}],
            buildset_registry=second.facts,
            intermediate_registry=at(there, port=way.port),
        )
    assert result["errors"] == []
    assert second.digest(APP, "later") == image.digest
