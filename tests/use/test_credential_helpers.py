# SPDX-License-Identifier: Apache-2.0
"""Credential helpers have no say in the registry's login; what is said of those that fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from buildset_clients.canary import diagnose, run
from buildset_clients.clients.base import PullError
from buildset_clients.errors import ClientError

from tests.use.places import LOGIN, PULL, PUSH, Place, make_setup

DOCKER, CONTAINERS = "/root/.docker/config.json", "/root/.config/containers/auth.json"
OTHERS = {"other.example.com": "ecr-login"}


def used(place: Place, path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Use the registry beside these settings, twice; undo brings them back."""
    place.write(path, json.dumps(settings), 0o600)
    before = place.tree()
    place.use("docker")
    found: dict[str, Any] = json.loads(place.read(path))
    assert not place.use("docker")["changed"]
    assert (
        dict.fromkeys((PULL, PUSH), LOGIN).items()
        <= {name: one["auth"] for name, one in found["auths"].items()}.items()
    )
    place.restore()
    assert place.tree() == before
    return found


@pytest.mark.parametrize("store", ["desktop", ""])
def test_a_store_that_is_not_installed_is_out_of_the_way(place: Place, store: str) -> None:
    """BuildKit and the SDK fail by it for every registry, and it can hold no login."""
    found = used(place, DOCKER, {"credsStore": store, "credHelpers": {PUSH: "pass", **OTHERS}})
    assert "credsStore" not in found
    assert found["credHelpers"] == OTHERS


@pytest.mark.parametrize("folder", ["/bin", "/root/bin", "/root/.local/bin"])
def test_a_store_that_is_installed_is_asked_for_other_registries(place: Place, folder: str) -> None:
    """On the node's PATH or among the user's own programs."""
    place.write(f"{folder}/docker-credential-pass", "#!/bin/sh\n", 0o755)
    found = used(place, DOCKER, {"credsStore": "pass", "credHelpers": {PULL: "other", **OTHERS}})
    assert found["credsStore"] == "pass"
    assert {PULL: "", PUSH: "", **OTHERS}.items() <= found["credHelpers"].items()


@pytest.mark.parametrize("path", [DOCKER, CONTAINERS])
def test_a_helper_of_the_registry_s_own_name_is_not_asked(place: Place, path: str) -> None:
    """Without a store nothing has to stand in its place, which podman would take for a name."""
    found = used(place, path, {"credHelpers": {PULL: "pass", PUSH: "pass", **OTHERS}})
    assert found["credHelpers"] == OTHERS


def test_a_store_is_back_where_somebody_has_logged_in_meanwhile(place: Place) -> None:
    """What had to go for ours returns; their login stays."""
    place.write(DOCKER, '{"credsStore": "desktop"}')
    place.use("docker")
    found = json.loads(place.read(DOCKER))
    found["auths"]["their.example.com"] = {"auth": "eDp5"}
    place.write(DOCKER, json.dumps(found))
    place.restore()
    assert json.loads(place.read(DOCKER)) == {
        "auths": {"their.example.com": {"auth": "eDp5"}},
        "credsStore": "desktop",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n "credsStore": ["pass"]\n}', "line 2: credsStore is not a string"),
        ('{"a": {"auths": 1},\n\n "auths": []}', "line 3: auths is not an object"),
        ('{"a": "\\"auths\\": {",\n "auths": []}', "line 2: auths is not an object"),
    ],
)
def test_a_key_of_another_kind_is_told_with_its_line(place: Place, text: str, words: str) -> None:
    """Of the outermost object, not of one below it or of a text that looks like it."""
    place.write(DOCKER, text)
    with pytest.raises(ClientError, match=f"{DOCKER}, {words}; mend the file"):
        place.use("docker")


def test_the_file_that_names_a_failing_helper_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that the tool was told to read, or the usual ones."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    place.use("containers")
    place.write("/bin/skopeo", "#!/bin/sh\n", 0o755)
    setup = make_setup()
    (tool,) = run.tools(place.node, setup, ["containers"])

    def said() -> str:
        failed = PullError("error getting credentials: exec")
        return diagnose.explain(tool, setup, setup.namespaces[0], failed)

    assert "mend it or take it out of the configuration [" in said()
    place.write(DOCKER, json.dumps({"credHelpers": OTHERS}))
    assert f"take it out of {place.root}{DOCKER} [" in said()
    chosen = place.write("/chosen.json", '{"credsStore": "pass"}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(chosen))
    assert f"take it out of {chosen} or {place.root}{DOCKER} [" in said()


FORBIDDEN = {
    "docker": (
        "Got permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock: dial unix /var/run/docker.sock",
        "/var/run/docker.sock",
    ),
    "buildkit": (
        "connection error: dial unix /run/buildkit/buildkitd.sock: connect: permission denied",
        "/run/buildkit/buildkitd.sock",
    ),
}


@pytest.mark.parametrize("client", FORBIDDEN)
def test_a_socket_that_is_not_the_user_s_to_ask_is_told(place: Place, client: str) -> None:
    """With what to do; a daemon that is merely not there is another matter."""
    program = {"docker": "docker", "buildkit": "buildctl"}[client]
    words, socket = FORBIDDEN[client]
    place.write(f"/bin/{program}", f"#!/bin/sh\necho '{words}' >&2; exit 1\n", 0o755)
    (note,) = run.untried(place.node, [client], [])
    assert note.startswith(f"{client} was not tried: {program} may not use {socket}; become root")
    place.write(f"/bin/{program}", "#!/bin/sh\necho 'no such file' >&2; exit 1\n", 0o755)
    (note,) = run.untried(place.node, [client], [])
    assert note.endswith("is not there, or gets no answer")
