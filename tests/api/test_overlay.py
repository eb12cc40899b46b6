# SPDX-License-Identifier: Apache-2.0
"""The overlay through the front door: images of other builds, of which nothing was copied."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.configurations import on_disk, once, only
from tests.api.harness import USER, Harness, Registry, digest_of
from tests.api.overlaid import BUILD, CHANGE, World, ask_for_token, make_world
from tests.api.test_image_tokens import publish
from tests.api.test_ledger import rows_of
from tests.unit.upstream.lab import V1_PATH, Server

pytestmark = only(once, why="it is the same overlay over whatever store")
APP, THERE = "quay.io/org/app", "quay.io/org/app"


@pytest.fixture
def world(harness: Harness, quay: Server, authority_file: str) -> Iterator[World]:
    """A registry that holds images, and one that pulls through from quay.io."""
    upstream = {"name": "quay.io", "url": quay.url, "ca": authority_file}
    yield make_world(harness, upstreams=[upstream], ledger={"folder": "ledger"})


@pytest.fixture
def authority_file(harness: Harness) -> str:
    """The authority that signs for every registry here."""
    path = harness.folder / "authority.pem"
    harness.authority.cert_pem.write_to_path(path)
    return str(path)


def get(registry: Registry, path: str) -> httpx.Response:
    return registry.pull.get(f"/v2/{path}")


def message(answer: httpx.Response) -> str:
    text = str(answer.json()["errors"][0]["message"])
    assert "\n" not in text
    return text


def test_twenty_images_are_there_at_once_and_none_was_copied(world: World) -> None:
    """Without a byte of a blob or a manifest; what is pulled then is what was built."""
    digests = {
        f"{APP}{number}:v1": (f"{THERE}{number}", world.holder.push_image(f"{THERE}{number}", "x"))
        for number in range(20)
    }
    assert world.hand(digests) == []
    assert world.buildset.pull.head(f"/v2/{APP}7/manifests/v1").status_code == 200
    assert world.asked("GET", "/blobs/") == world.asked("GET", "/manifests/") == 0
    for name, (_there, digest) in digests.items():
        path = name.replace(":", "/manifests/")
        assert digest_of(get(world.buildset, path).content) == digest


def test_a_token_for_its_tag_gets_it_by_digest(harness: Harness) -> None:
    """By HEAD a client hears the digest, of which nothing is here yet."""
    world = make_world(harness, auth={"anonymous_pull": False})
    digest = world.holder.push_image(THERE, "x", b"handed")
    other = world.holder.push_image(THERE, "y", b"other")
    assert world.hand({f"{APP}:v9": (THERE, digest)}) == []
    token = ask_for_token(world.buildset, [f"image:{APP}:v9:pull"])
    headers = {"Authorization": f"Bearer {token}"}
    ask, path = world.buildset.pull, f"/v2/{APP}/manifests"
    assert ask.get(f"{path}/{digest}", headers=headers).status_code == 401
    told = ask.head(f"{path}/v9", headers=headers)
    assert told.headers["docker-content-digest"] == digest
    assert ask.get(f"{path}/{digest}", headers=headers).status_code == 200
    assert ask.get(f"{path}/{other}", headers=headers).status_code == 401


def test_all_that_belongs_to_an_image_is_there(world: World, quay: Server) -> None:
    """Platforms, blobs, signatures by the API and by cosign's tags; and upstream is not asked."""
    whole = publish(world.holder, THERE, f"{BUILD}_v9", b"whole")
    assert world.hand({f"{APP}:v9": (THERE, whole.digest)}) == []
    head = world.buildset.pull.head(f"/v2/{APP}/manifests/v9")
    assert head.headers["docker-content-digest"] == whole.digest
    assert world.buildset.pull.get(f"/v2/{APP}/tags/list").json()["tags"] == ["v9"]
    assert APP in world.buildset.pull.get("/v2/_catalog").json()["repositories"]
    assert world.buildset.push.get("/v2/_catalog").json()["repositories"] == []
    lists_first = sorted(whole.parts[1:], key=lambda path: not path.startswith("referrers"))
    for path in [f"manifests/{whole.digest}", *lists_first]:
        here, there = (
            get(world.buildset, f"{APP}/{path}"),
            world.holder.push.get(f"/v2/{THERE}/{path}"),
        )
        assert (here.status_code, here.content) == (200, there.content), path
    assert quay.asked == []


def test_fifty_clients_are_one_fetch(world: World) -> None:
    """Of the manifest and of each blob."""
    digest = world.holder.push_image(THERE, "x", b"seed" * 50_000)
    layer = digest_of(b"seed" * 50_000 * 10)
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []

    url = world.buildset.pull.base_url

    def pull(_number: int) -> tuple[bytes, bytes]:
        with httpx.Client(base_url=url, verify=world.harness.trusted, timeout=30) as client:
            manifest = client.get(f"/v2/{APP}/manifests/v1").content
            return manifest, client.get(f"/v2/{APP}/blobs/{layer}").content

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(pull, range(50)))
    assert {(digest_of(one), digest_of(other)) for one, other in found} == {(digest, layer)}
    assert world.asked("GET", f"/blobs/{layer}") == 1
    assert world.asked("GET", "/manifests/") == 1


def test_a_push_wins_and_its_deletion_uncovers_the_overlay(world: World, quay: Server) -> None:
    """Pushed, overlaid, upstream: in this order, also in the middle."""
    assert get(world.buildset, f"{APP}/manifests/v1").status_code == 200
    from_upstream = len(quay.at(V1_PATH))
    assert from_upstream
    theirs = world.holder.push_image(THERE, "x", b"theirs")
    assert world.hand({f"{APP}:v1": (THERE, theirs)}) == []
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == theirs
    ours = world.buildset.push_image(APP, "v1", b"ours")
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == ours
    assert world.buildset.push.delete(f"/v2/{APP}/manifests/{ours}").status_code == 202
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == theirs
    assert len(quay.at(V1_PATH)) == from_upstream


def test_other_tags_of_the_repository_are_upstream_s(world: World, quay: Server) -> None:
    """Also where the holder is down: what belongs to no image of it is none of its business."""
    theirs = world.holder.push_image(THERE, "x", b"theirs")
    assert world.hand({f"{APP}:mine": (THERE, theirs)}) == []
    world.holder.stop()
    assert get(world.buildset, f"{APP}/manifests/v1").status_code == 200
    assert len(quay.at(V1_PATH)) == 1


def test_a_holder_that_is_down_is_named_and_upstream_is_not_asked(
    world: World, quay: Server
) -> None:
    """Upstream has a tag of that name; what was pulled before goes on."""
    kept = world.holder.push_image(THERE, "x", b"kept")
    lost = world.holder.push_image(THERE, "y", b"lost")
    assert world.hand({f"{APP}:kept": (THERE, kept), f"{APP}:v1": (THERE, lost)}) == []
    assert get(world.buildset, f"{APP}/manifests/kept").status_code == 200
    world.holder.stop()
    assert get(world.buildset, f"{APP}/manifests/kept").status_code == 200
    refused = get(world.buildset, f"{APP}/manifests/v1")
    assert refused.status_code == 502
    assert f"upstream {world.host} " in message(refused)
    assert world.buildset.pull.head(f"/v2/{APP}/manifests/v1").status_code == 502
    assert quay.asked == []


def test_what_was_removed_is_told_by_the_build_that_made_it(world: World, quay: Server) -> None:
    """Not as an unknown manifest: whose image it was, and what to do."""
    digest = world.holder.push_image(THERE, "x", b"gone")
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []
    assert world.holder.push.delete(f"/v2/{THERE}/manifests/{digest}").status_code == 202
    gone = get(world.buildset, f"{APP}/manifests/v1")
    assert gone.status_code == 410
    assert message(gone) == (
        f"{APP}:v1, made by build {BUILD} of change {CHANGE}: {world.host} has removed it since, "
        f"or a part of it ({digest}), and says: {THERE} has no manifest {digest}; "
        "quay.io is no upstream of this registry; run that build again"
    )
    again = world.hand({f"{APP}:v1": (THERE, digest)})
    assert len(again) == 1
    assert again[0].startswith(f"{APP}:v1, made by build {BUILD} of change {CHANGE}: it is not at")
    assert quay.asked == []


def test_a_token_that_has_ended_is_told(world: World) -> None:
    """What came before stays; what comes after is refused in a line that says why."""
    digest = world.holder.push_image(THERE, "x", b"late")
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []
    (world.harness.folder / "htpasswd").write_text("another:$2y$04$" + "x" * 53 + "\n")
    assert world.hand({f"{APP}:v1": (THERE, digest)}, token="a.b.c", expires=1.0) != []
    later = world.document({f"{APP}:v1": (THERE, digest)}, token="a.b.c", expires=1.0)
    (world.folder / "images.json").write_text(later)
    refused = get(world.buildset, f"{APP}/manifests/v1")
    assert refused.status_code == 502
    assert "has ended at 1970-01-01 00:00:01 UTC; have the images of" in message(refused)


@only(on_disk, why="another process goes on with what is on disk")
def test_the_map_outlives_the_registry(world: World) -> None:
    """Handed over once, served by the next process; a damaged file leaves what was known."""
    digest = world.holder.push_image(THERE, "x", b"kept")
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []
    world.restart(ledger={"folder": "ledger"})
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == digest
    mode = (world.folder / "images.json").stat().st_mode
    assert (mode & 0o777, world.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    (world.folder / "images.json").write_text("{")
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == digest
    world.buildset.wait_for_log("is not JSON")
    assert world.buildset.log.read_text().count("is not JSON") == 1


def test_names_without_an_upstream_are_overlaid_too(world: World) -> None:
    """A registry that is pulled through from nowhere, and Docker Hub by each of its names."""
    digest = world.holder.push_image("other", "x", b"other")
    names = ["registry.example:5000/org/app:v1", "app:v1"]
    assert world.hand(dict.fromkeys(names, ("other", digest))) == []
    for path in ("app", "library/app", "docker.io/app", "docker.io/library/app"):
        assert digest_of(get(world.buildset, f"{path}/manifests/v1").content) == digest, path
    answer = get(world.buildset, "org/app/manifests/v1?ns=registry.example:5000")
    assert digest_of(answer.content) == digest
    assert get(world.buildset, "org/app/manifests/v2?ns=registry.example:5000").status_code == 404


def test_the_ledger_names_build_and_change(world: World) -> None:
    """By tag and by digest; what was pushed is not the overlay's."""
    digest = world.holder.push_image(THERE, "x", b"row")
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []
    get(world.buildset, f"{APP}/manifests/v1")
    (row,) = rows_of(world.harness.folder / "ledger", "pull", lambda rows: len(rows) == 1)
    assert row["source"] == {
        "kind": "overlay", "registry": world.host, "build": BUILD, "change": CHANGE
    }  # fmt: skip


def test_no_overlay_serves_what_it_is_not_told(world: World, harness: Harness) -> None:
    """A registry without the setting has none."""
    digest = world.holder.push_image(THERE, "x", b"none")
    assert world.hand({f"{APP}:v1": (THERE, digest)}) == []
    plain = harness.start("plain")
    assert get(plain, f"{APP}/manifests/v1").status_code == 404


def test_a_client_hands_over_what_is_at_a_registry_that_the_command_has_named(
    world: World,
) -> None:
    """Then it is served as what the command hands over is; a push goes on winning."""
    digest = world.holder.push_image(THERE, "x", b"by request")
    text = world.document({f"{APP}:v1": (THERE, digest)})
    refused = world.put(APP, text)
    assert (refused.status_code, message(refused)) == (
        403,
        f"{world.host} is not known to hold images of other builds; let buildset-registry overlay "
        "name it first, where this registry runs",
    )
    world.name_holder()
    taken = world.put(APP, text)
    assert (taken.status_code, taken.json()) == (201, {"images": [f"{APP}:v1"]})
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == digest
    world.restart()
    pushed = world.buildset.push_image(APP, "v1", b"pushed")
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == pushed


def test_what_a_client_may_not_hand_over_changes_nothing(world: World, harness: Harness) -> None:
    """Nobody, somebody who may push elsewhere alone, the pull endpoint, a registry without any."""
    digest = world.holder.push_image(THERE, "x", b"refused")
    world.name_holder()
    text = world.document({f"{APP}:v1": (THERE, digest)})
    before = (world.folder / "images.json").read_bytes()
    base = world.buildset.push.base_url
    with httpx.Client(base_url=base, verify=harness.trusted) as stranger:
        assert stranger.put(f"/overlay/{APP}", content=text).status_code == 401
    answers = {
        "read-only": world.buildset.pull.put(f"/overlay/{APP}", content=text),
        "is not of quay.io/org/other": world.put("quay.io/org/other", text),
        "no image is named": world.put(APP, '{"version": 1, "handed": []}'),
        "is not JSON": world.put(APP, "{"),
        "is not UTF-8": world.put(APP, b"\xff"),
        "more than 1 MiB": world.put(APP, " " * (1024 * 1024 + 1)),
        "has no overlay": harness.start("without").push.put(f"/overlay/{APP}", content=text),
    }
    assert [what for what, answer in answers.items() if what not in message(answer)] == []
    statuses = [answer.status_code for answer in answers.values()]
    assert statuses == [405, 400, 400, 400, 400, 400, 404]
    world.holder.stop()
    gone = world.put(APP, text)
    assert gone.status_code == 502
    assert f"{APP}:v1, made by build {BUILD} of change {CHANGE}: upstream" in message(gone)
    assert (world.folder / "images.json").read_bytes() == before
    token = json.loads(text)["handed"][0]["token"]
    assert token not in world.buildset.log.read_text() + "".join(map(message, answers.values()))


def test_a_client_names_neither_another_authority_nor_images_without_end(world: World) -> None:
    """The authority is the one that the command has named; there is a bound for all of them."""
    digest = world.holder.push_image(THERE, "x", b"bound")
    world.name_holder()
    tree = json.loads(world.document({f"{APP}:v1": (THERE, digest)}))
    (handed,) = tree["handed"]
    handed["registry"]["cert"] = "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----"
    assert world.put(APP, json.dumps(tree)).status_code == 201
    assert get(world.buildset, f"{APP}/manifests/v1").status_code == 200
    (image,) = handed["images"].values()
    handed["images"] = {f"{APP}:v{number}": image for number in range(201)}
    assert "more than 200 images" in message(world.put(APP, json.dumps(tree)))
    handed["images"] = {f"{APP}:v{number}": image for number in range(5000)}
    world.name_holder(handed)
    handed["images"] = {f"{APP}:one-more": image}
    full = world.put(APP, json.dumps(tree))
    assert (full.status_code, "no room for more images" in message(full)) == (507, True)
    assert get(world.buildset, f"{APP}/manifests/one-more").status_code == 404


def test_an_image_whose_token_is_kept_no_longer_is_told_of(world: World, quay: Server) -> None:
    """By tag and by digest; neither upstream nor who held it is asked, and the rest goes on."""
    ended, other = (world.holder.push_image(THERE, tag, tag.encode()) for tag in ("x", "y"))
    text = world.document({f"{APP}:v1": (THERE, ended)}, expires=1.0)
    world.folder.mkdir(exist_ok=True)
    (world.folder / "images.json").write_text(text)
    assert world.hand({f"{APP}:other": (THERE, other)}) == []
    assert json.loads(text)["handed"][0]["token"] not in (world.folder / "images.json").read_text()
    before = world.asked("HEAD", THERE) + world.asked("GET", THERE)
    for reference in ("v1", ended):
        refused = get(world.buildset, f"{APP}/manifests/{reference}")
        assert (refused.status_code, message(refused)) == (
            502,
            f"{APP}:v1, made by build {BUILD} of change {CHANGE}: the token for it at {world.host} "
            "has ended at 1970-01-01 00:00:01 UTC; have the images of other builds pulled again",
        )
    signature = f"{ended.replace(':', '-')}.sig"
    assert get(world.buildset, f"{APP}/manifests/{signature}").status_code == 404
    assert get(world.buildset, f"{APP}/referrers/{ended}").json()["manifests"] == []
    assert world.asked("HEAD", THERE) + world.asked("GET", THERE) == before
    assert digest_of(get(world.buildset, f"{APP}/manifests/other").content) == other
    assert quay.asked == []
    assert world.buildset.pull.get(f"/v2/{APP}/tags/list").json()["tags"] == ["other", "v1"]
    assert world.hand({f"{APP}:v1": (THERE, ended)}) == []
    assert digest_of(get(world.buildset, f"{APP}/manifests/v1").content) == ended


def test_nobody_says_how_long_a_token_lasts(world: World) -> None:
    """What a client hands over is noted for a day at most: a token lives no longer."""
    digest = world.holder.push_image(THERE, "x", b"long")
    world.name_holder()
    text = world.document({f"{APP}:v1": (THERE, digest)}, expires=4e9)
    assert world.put(APP, text).status_code == 201
    (group,) = json.loads((world.folder / "images.json").read_text())["handed"]
    assert time.time() + 86_000 < group["expires"] < time.time() + 86_401
    assert USER not in (world.folder / "images.json").read_text()


def test_a_folder_that_cannot_be_written_is_told_without_its_path(world: World) -> None:
    """The client copies then; the log says what to do."""
    digest = world.holder.push_image(THERE, "x")
    assert world.hand({f"{APP}:v0": (THERE, digest)}) == []
    text = world.document({f"{APP}:v1": (THERE, digest)})
    (world.folder / "images.json").unlink()
    (world.folder / "images.json").mkdir()
    answer = world.put(APP, text)
    assert answer.status_code == 500
    assert "copy them" in message(answer) and str(world.folder) not in answer.text
    world.buildset.wait_for_log("images of other builds are not taken")
