# SPDX-License-Identifier: Apache-2.0
"""What the roles' module does between real registries, and against one that fails, without Ansible.

Which bytes travel, what is asked, what is said; ``test_intermediate`` has the roles around it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from buildset_images import carry
from buildset_images.errors import ImagesError
from buildset_images.registry_client.transfer import connections
from buildset_images.transfers import CarryOptions

from tests.interop.content import DOCKER_IMAGE, DOCKER_LIST, INDEX, Pusher
from tests.interop.registries import PASSWORD, USER
from tests.ports import free_port
from tests.roles.intermediate import (
    KINDS,
    NAME,
    Api,
    Served,
    answering,
    faulty,
)

BUILD, LATER = "a" * 32, "b" * 32
APP = "quay.io/org/app"
NO_PROMOTION = {"method": "tag", "prefix": "", "buildset": "", "newrev": ""}
ASKED = {"pipeline": "gate", "job": "build-images", "change": "42", "patchset": "3"}


def act(action: str, dry: bool = False, **given: Any) -> dict[str, Any]:
    """Call what the module calls."""
    options: dict[str, Any] = {
        "images": [],
        "images_variable": "container_images",
        "artifacts": [],
        "build": BUILD,
        "returned": [],
        "buildset_registry": None,
        "intermediate_registry": None,
        "registries": [],
        "promotion": None,
    }
    return carry.work({**options, **given, "action": action}, CarryOptions(dry, patience=0.01))


def push(own: Served, there: Served, *images: str, **more: Any) -> dict[str, Any]:
    """Push images, each named with a tag."""
    listed = [dict(zip(("repository", "tags"), one.rsplit(":", 1), strict=True)) for one in images]
    wanted = [{**one, "tags": [one["tags"]]} for one in listed]
    facts, secret = own.facts, there.secret
    return act(
        "push",
        **{"images": wanted, "buildset_registry": facts, "intermediate_registry": secret, **more},
    )


def pull(own: Served, there: Served, artifacts: list[Any], **more: Any) -> dict[str, Any]:
    """Pull what artifacts name."""
    secrets = {"buildset_registry": own.facts, "intermediate_registry": there.secret}
    return act("pull", **{**secrets, "artifacts": artifacts, **more})


def error_of(result: dict[str, Any]) -> str:
    """Return the one line that says what is wrong."""
    (line,) = result["errors"]
    assert "\n" not in line
    assert PASSWORD not in json.dumps(result)
    assert result["artifacts"] == []
    return str(line)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_keeps_its_digest(world: dict[str, Served], kind: str) -> None:
    """Schema 2, OCI, both kinds of index, an index of indexes: there, and in the next buildset."""
    first, second, there = world["first"], world["second"], world[kind]
    pusher, name = Pusher(first.client), f"quay.io/org/kinds-for-{kind}"
    oci = [pusher.image(name, seed) for seed in (b"one", b"two")]
    schema = [pusher.image(name, seed, media_type=DOCKER_IMAGE) for seed in (b"three", b"four")]
    made = {
        "oci": pusher.image(name, b"five", "oci"),
        "schema2": pusher.image(name, b"six", "schema2", media_type=DOCKER_IMAGE),
        "index": pusher.index(name, INDEX, oci, "index"),
        "list": pusher.index(name, DOCKER_LIST, schema, "list"),
    }
    if kind != "zuul-registry":
        made["untyped"] = pusher.image(name, b"seven", "untyped", say_type=False)
    made["nested"] = pusher.index(name, INDEX, (made["index"], oci[0]), "nested")
    pushed = push(first, there, *(f"{name}:{tag}" for tag in made))
    assert pushed["errors"] == []
    assert pushed["bytes"]["moved"] > 0
    pulled = pull(second, there, pushed["artifacts"])
    assert pulled["errors"] == []
    for tag, digest in made.items():
        assert first.digest(name, tag) == digest
        assert there.digest(name, f"{BUILD}_{tag}") == digest, tag
        assert second.digest(name, tag) == digest, tag


def test_what_a_registry_cannot_give_back_is_told(world: dict[str, Served]) -> None:
    """zuul-registry takes a manifest without a media type of its own, and cannot give it back."""
    first, there = world["first"], world["zuul-registry"]
    Pusher(first.client).image("quay.io/org/untyped", b"untyped", "v1", say_type=False)
    pushed = push(first, there, "quay.io/org/untyped:v1")
    line = error_of(pull(world["second"], there, pushed["artifacts"]))
    assert line.startswith(f"quay.io/org/untyped:v1, built by build {BUILD}: ")
    assert "500" in line


def test_what_crosses_the_executor_is_what_the_other_side_lacks(world: dict[str, Served]) -> None:
    """Each blob once; again: nothing, at the price of a HEAD for each image that is pulled."""
    first, second, there = world["first"], world["second"], world["ours"]
    pusher = Pusher(first.client)
    name = "quay.io/org/crossing"
    pusher.image(name, b"crossing", "v1", "v2")
    sizes = sum(len(raw) for raw in pusher.content.blobs.values())
    pushed = push(first, there, f"{name}:v1", f"{name}:v2")
    assert pushed["bytes"]["moved"] == sizes
    assert push(first, there, f"{name}:v1", f"{name}:v2")["bytes"]["moved"] == 0
    assert pull(second, there, pushed["artifacts"])["bytes"]["moved"] == sizes
    for artifacts in (pushed["artifacts"], [without_digest(one) for one in pushed["artifacts"]]):
        again = pull(second, there, artifacts)
        assert (again["changed"], again["bytes"]["moved"]) == (False, 0)
        assert all(line.endswith("already") for line in again["lines"])


def without_digest(artifact: dict[str, Any]) -> dict[str, Any]:
    """Return an artifact as the roles of zuul-jobs have it."""
    keys = ("type", "repository", "tag")
    return {**artifact, "metadata": {key: artifact["metadata"][key] for key in keys}}


def test_an_address_of_ipv6_is_as_good_as_a_name(world: dict[str, Served]) -> None:
    """With brackets in the artifact, whether or not the secret has them."""
    first, second, there = world["first"], world["second"], world["ours"]
    digest = Pusher(first.client).image("quay.io/org/six", b"six", "v1")
    secret = {**there.secret, "host": "::1", "address": ""}
    pushed = push(first, there, "quay.io/org/six:v1", intermediate_registry=secret)
    assert pushed["errors"] == []
    (artifact,) = pushed["artifacts"]
    assert artifact["url"] == f"docker://[::1]:{there.port}/quay.io/org/six:{BUILD}_v1"
    secret["host"] = "[::1]"
    pulled = pull(second, there, [artifact], intermediate_registry=secret)
    assert pulled["errors"] == []
    assert second.digest("quay.io/org/six", "v1") == digest


def test_what_is_there_by_digest_costs_a_head() -> None:
    """A buildset's own images come back to it from its parents; nothing else is asked."""
    digest = "sha256:" + "d" * 64
    with faulty(200, {"Docker-Content-Digest": digest}) as registry:
        secret = {**registry.facts, "host": NAME, "address": "127.0.0.1"}
        artifacts = [artifact_at(registry.port, "latest", digest)]
        secrets: dict[str, Any] = {"buildset_registry": registry.facts}
        result = act("pull", artifacts=artifacts, **secrets, intermediate_registry=secret)
    assert (result["errors"], result["changed"]) == ([], False)
    assert registry.asked == Counter({("HEAD", f"/v2/{APP}/manifests/latest"): 1})


def test_a_signature_travels_with_its_image(world: dict[str, Served]) -> None:
    """What refers to an image is a referrer of it in the next buildset, too."""
    first, second, there = world["first"], world["second"], world["ours"]
    pusher, name = Pusher(first.client), "quay.io/org/signed"
    digest = pusher.image(name, b"signed", "v1")
    signature = pusher.artifact(name, digest)
    pull(second, there, push(first, there, f"{name}:v1")["artifacts"])
    listed = second.client.get(f"/v2/{name}/referrers/{digest}").json()["manifests"]
    assert [one["digest"] for one in listed] == [signature]


def test_the_later_of_two_changes_wins_every_time(world: dict[str, Served]) -> None:
    """50 tags of two changes each, all at once: the buildset has those of the nearest change."""
    first, second, there = world["first"], world["second"], world["distribution"]
    pusher, name = Pusher(first.client), "quay.io/org/twice"
    made = {}
    for build in (BUILD, LATER):
        digest = pusher.image(name, build.encode(), "latest")
        (made[digest],) = push(first, there, f"{name}:latest", build=build)["artifacts"]
    expected, artifacts = {}, []
    for turn in range(50):
        ahead, nearest = list(made)[:: 1 if turn % 2 else -1]
        expected[f"t{turn}"] = nearest
        artifacts += [tagged(made[digest], f"t{turn}") for digest in (nearest, ahead, nearest)]
    result = pull(second, there, artifacts)
    assert result["errors"] == []
    assert {one["name"].partition(":")[2]: one["digest"] for one in result["images"]} == expected
    assert {tag: second.digest(name, tag) for tag in expected} == expected


def tagged(artifact: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return an artifact as one of another tag."""
    return {**artifact, "metadata": {**artifact["metadata"], "tag": tag}}


def test_check_mode_copies_nothing(world: dict[str, Served]) -> None:
    """It tells what would be, and the difference."""
    first, there = world["first"], world["ours"]
    digest = Pusher(first.client).image("quay.io/org/checked", b"checked", "v1")
    images = [{"repository": "quay.io/org/checked", "tags": ["v1"]}]
    secrets = {"buildset_registry": first.facts, "intermediate_registry": there.secret}
    result = act("push", dry=True, images=images, **secrets)
    assert result["changed"]
    assert "would be" in result["lines"][0]
    assert result["diff"]["before"].endswith("_v1 -\n")
    assert result["diff"]["after"].endswith(f"_v1 {digest}\n")
    assert there.digest("quay.io/org/checked", f"{BUILD}_v1") == ""


def test_nothing_to_do_needs_no_registry() -> None:
    """A job without images, or without changes ahead, has no use for the secret."""
    for action in ("push", "pull"):
        result = act(action)
        assert (result["errors"], result["changed"], result["lines"]) == ([], False, [])


def test_one_image_that_fails_does_not_stop_the_others(world: dict[str, Served]) -> None:
    """What was not pushed is named; what was is returned all the same."""
    first, there = world["first"], world["ours"]
    Pusher(first.client).image("quay.io/org/there", b"there", "v1")
    result = push(first, there, "quay.io/org/there:v1", "quay.io/org/absent:v1")
    assert [one["name"] for one in result["artifacts"]] == ["quay.io/org/there:v1"]
    (line,) = result["errors"]
    assert re.search(r"^quay.io/org/absent:v1: .* was not pushed", line), line


def test_an_image_that_is_gone_is_told_by_who_made_it(world: dict[str, Served]) -> None:
    """Not that a manifest is unknown."""
    there = world["ours"]
    url = f"docker://{NAME}:{there.port}/{APP}:{BUILD}_gone"
    metadata = {"type": "container_image", "repository": APP, "tag": "gone"}
    by = {"project": "org/app", "job": "build-images", "change": "41", "patchset": "2"}
    line = error_of(
        pull(world["second"], there, [{"name": "x", "url": url, "metadata": metadata, **by}])
    )
    assert line.startswith(f"{APP}:gone, built by build {BUILD} of job build-images, change 41,2")
    assert "has been removed since" in line


@pytest.mark.parametrize("action", ["pull", "promote"])
def test_an_image_that_was_removed_is_told_with_day_and_rule(action: str) -> None:
    """As the registry that had it says so."""
    removed = "it was removed on 2026-01-02 by the rule for builds of the retention"
    told = {"code": "MANIFEST_UNKNOWN", "message": f"{APP} has no manifest; {removed}"}
    with faulty(404, body=json.dumps({"errors": [told]}).encode()) as registry, answering() as api:
        artifact = {**artifact_at(registry.port, "v1"), "change": "41", "patchset": "2"}
        secret = {**registry.facts, "host": NAME, "address": "127.0.0.1"}
        build = {"uuid": BUILD, "job_name": "build-images", "result": "SUCCESS"}
        api.answers["/builds"] = [{**build, "artifacts": [artifact]}]
        given: dict[str, Any] = {"artifacts": [artifact], "buildset_registry": registry.facts}
        if action == "promote":
            promotion = {**NO_PROMOTION, "method": "intermediate-registry", "api": api.url, **ASKED}
            login = {"registry": "quay.io", "login": {"username": USER, "password": PASSWORD}}
            images = [{"repository": APP, "tags": ["v1"]}]
            given = {"promotion": promotion, "registries": [login], "images": images}
        line = error_of(act(action, **given, intermediate_registry=secret))
    assert line.startswith(f"{APP}:v1, built by build {BUILD} of change 41,2: ")
    assert removed in line


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_credentials_are_told(world: dict[str, Served], kind: str) -> None:
    """The line names the registry that refuses them."""
    there = world[kind]
    Pusher(world["first"].client).image(APP, b"credentials", "v1")
    wrong = {**there.secret, "password": "not the one"}
    line = error_of(push(world["first"], there, f"{APP}:v1", intermediate_registry=wrong))
    assert f"{NAME}:{there.port}" in line
    assert "401" in line or "credentials" in line


def test_a_certificate_that_is_not_trusted_is_told(world: dict[str, Served]) -> None:
    """With the key of the secret that is missing."""
    there = world["ours"]
    unknown = {key: value for key, value in there.secret.items() if key != "cert"}
    line = error_of(push(world["first"], there, f"{APP}:v1", intermediate_registry=unknown))
    assert "give the PEM of its CA as cert" in line
    junk = {**there.secret, "cert": "no PEM"}
    assert "PEM" in error_of(push(world["first"], there, f"{APP}:v1", intermediate_registry=junk))


def test_a_name_that_does_not_resolve_is_told(world: dict[str, Served]) -> None:
    """Unless the secret has an address."""
    there = world["ours"]
    nowhere = {key: value for key, value in there.secret.items() if key != "address"}
    line = error_of(push(world["first"], there, f"{APP}:v1", intermediate_registry=nowhere))
    assert NAME in line


@pytest.mark.parametrize(
    ("status", "said"),
    [
        *((429, "429"), (500, "500"), (503, "503"), (507, "507"), (403, "403")),
        *((302, ""), (None, "timed out")),
    ],
)
def test_a_registry_that_fails_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, status: int | None, said: str
) -> None:
    """One that limits the rate, breaks, is full, refuses, leads nowhere, or never answers."""
    monkeypatch.setattr(connections, "TIMEOUT", 1)
    with faulty(status) as registry:
        line = error_of(fail(registry.facts))
    assert line.startswith(f"{APP}:latest: ")
    assert f"127.0.0.1:{registry.port}" in line
    assert said in line


def test_a_registry_that_is_down_is_told_in_a_line() -> None:
    """Nobody listens there."""
    port = free_port()
    facts = {"host": "127.0.0.1", "port": port, "username": USER, "password": PASSWORD}
    line = error_of(fail(facts))
    assert f"127.0.0.1:{port}" in line
    assert "refused" in line


def fail(facts: dict[str, Any]) -> dict[str, Any]:
    """Push to a registry from itself."""
    images = [{"repository": APP}]
    return act("push", images=images, buildset_registry=facts, intermediate_registry=facts)


def artifact_at(port: int, tag: str, digest: str = "", build: str = BUILD) -> dict[str, Any]:
    """Return what a build has returned of an image."""
    metadata = {"type": "container_image", "repository": APP, "tag": tag}
    url = f"docker://{NAME}:{port}/{APP}:{build}_{tag}"
    more = {"digest": digest} if digest else {}
    return {"name": f"{APP}:{tag}", "url": url, "metadata": {**metadata, **more}}


@pytest.fixture
def merged(
    world: dict[str, Served], request: pytest.FixtureRequest
) -> Iterator[tuple[Api, str, dict[str, Any]]]:
    """Have an image of a build in the intermediate registry, and Zuul tell of the build."""
    there = world["ours"]
    # No other test has published it.
    digest = Pusher(there.client).image(APP, request.node.name.encode(), f"{BUILD}_v1")
    with answering() as api:
        build = {
            "uuid": BUILD,
            "job_name": "build-images",
            "result": "SUCCESS",
            "ref": {"change": 42, "patchset": "3"},
            "artifacts": [artifact_at(there.port, "v1", digest)],
        }
        api.answers["/builds"] = [build]
        yield api, digest, build


def promote(
    world: dict[str, Served], api: Api, where: str = "public", **more: Any
) -> dict[str, Any]:
    """Promote the image to a registry that stands for quay.io."""
    public = world[where]
    login = {"username": USER, "password": PASSWORD, "cert": public.cert, "address": "127.0.0.1"}
    host = f"{NAME}:{public.port}"
    # The name of the repository has its registry, as everywhere; here with a port.
    api.rename(APP, f"{host}/org/app")
    promotion = {**NO_PROMOTION, "method": "intermediate-registry", "api": api.url, **ASKED}
    return act(
        "promote",
        **{
            "images": [{"repository": f"{host}/org/app", "tags": ["v1"], "registry": "public"}],
            "intermediate_registry": world["ours"].secret,
            "registries": [{"registry": "public", "login": login}],
            "promotion": promotion,
            **more,
        },
    )


def test_what_a_successful_build_has_tested_is_published(
    world: dict[str, Served], merged: tuple[Api, str, dict[str, Any]]
) -> None:
    """By its digest; again, nothing is done."""
    api, digest, _build = merged
    result = promote(world, api)
    assert result["errors"] == []
    assert result["changed"]
    assert world["public"].digest("org/app", "v1") == digest
    assert promote(world, api)["changed"] is False
    query = "change=42&patchset=3&pipeline=gate&job_name=build-images"
    assert api.asked[0].endswith(f"/builds?{query}")


def test_in_one_registry_promoting_moves_no_bytes(
    world: dict[str, Served], merged: tuple[Api, str, dict[str, Any]]
) -> None:
    """Blobs are mounted from the build's repository."""
    api, digest, _build = merged
    result = promote(world, api, "ours")
    assert (result["errors"], result["bytes"]["moved"]) == ([], 0)
    assert result["bytes"]["mounted"] + result["bytes"]["skipped"] > 0
    assert world["ours"].digest("org/app", "v1") == digest


def test_a_tag_that_is_another_image_now_is_not_published(
    world: dict[str, Served], merged: tuple[Api, str, dict[str, Any]]
) -> None:
    """Somebody has pushed over what was tested."""
    api, digest, _build = merged
    other = Pusher(world["ours"].client).image(APP, b"somebody else's", f"{BUILD}_v1")
    line = error_of(promote(world, api))
    assert f"is {other} now, and {digest} was tested" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"result": "FAILURE"}, "has FAILURE; only what was tested is promoted"),
        ({"artifacts": [{"name": "logs", "url": "logs/"}]}, "has returned no image"),
        ({"job_name": "another"}, "there is no build of job build-images"),
    ],
)
def test_what_was_not_tested_is_not_published(
    world: dict[str, Served],
    merged: tuple[Api, str, dict[str, Any]],
    change: dict[str, Any],
    said: str,
) -> None:
    """A build that failed may have pushed before it did."""
    api, _digest, build = merged
    build.update(change)
    with pytest.raises(ImagesError, match=said):
        promote(world, api)


@pytest.mark.parametrize("answer", [b"<html>", b"", None])
def test_an_api_that_is_none_is_told(
    world: dict[str, Served], merged: tuple[Api, str, dict[str, Any]], answer: bytes | None
) -> None:
    """A page for people, nothing, or a refusal."""
    api, _digest, _build = merged
    api.answers["/builds"] = answer
    with pytest.raises(ImagesError, match="is to end in /api/tenant/TENANT"):
        promote(world, api)


@pytest.mark.parametrize("before", [(502, ""), (503, ""), (301, "/api/tenant/example/builds")])
def test_an_api_that_is_down_for_a_moment_or_has_moved_is_asked_again(
    world: dict[str, Served],
    merged: tuple[Api, str, dict[str, Any]],
    before: tuple[int, str],
) -> None:
    """What has merged is published once, and nobody watches it."""
    api, digest, _build = merged
    api.before = [before]
    result = promote(world, api)
    assert result["errors"] == []
    assert [one["digest"] for one in result["images"]] == [digest]


def test_an_api_that_is_down_is_told(world: dict[str, Served]) -> None:
    """Nobody listens there."""
    with answering() as api:
        pass
    with pytest.raises(ImagesError, match="Zuul's API cannot be asked"):
        promote(world, api)


def retag(world: dict[str, Served], where: str, tag: str, **more: Any) -> dict[str, Any]:
    """Promote what was uploaded under the change's tag."""
    public = world[where]
    login = {"username": USER, "password": PASSWORD, "cert": public.cert, "address": "127.0.0.1"}
    image = {"repository": f"{NAME}:{public.port}/org/uploaded", "tags": [tag]}
    return act(
        "promote",
        images=[{**image, "registry": "public"}],
        registries=[{"registry": "public", "login": login}],
        promotion={**NO_PROMOTION, "api": "", **ASKED, "prefix": "change_42", **more},
    )


@pytest.mark.parametrize(("where", "kept"), [("public", False), ("distribution", True)])
def test_a_change_s_tag_becomes_the_tag_and_goes(
    world: dict[str, Served], where: str, kept: bool
) -> None:
    """No bytes move; the published tag stays, also where the other cannot be deleted."""
    registry = world[where]
    digest = Pusher(registry.client).image("org/uploaded", b"uploaded", "change_42_v1")
    result = retag(world, where, "v1")
    assert (result["errors"], result["bytes"]["moved"]) == ([], 0)
    assert registry.digest("org/uploaded", "v1") == digest
    assert registry.digest("org/uploaded", "change_42_v1") == (digest if kept else "")
    assert ("stays" if kept else "is deleted") in result["lines"][-1]


def test_a_change_s_tag_that_is_not_there_is_told(world: dict[str, Served]) -> None:
    """It was never uploaded, or was promoted before."""
    line = error_of(retag(world, "public", "v9"))
    assert "org/uploaded:change_42_v9 is not there" in line
