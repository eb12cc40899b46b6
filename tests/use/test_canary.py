# SPDX-License-Identifier: Apache-2.0
"""The canary comes and goes without a trace, and what is at fault is named."""

from __future__ import annotations

import pytest
import trustme
from buildset_clients.errors import ClientError

from tests.use.places import Place
from tests.use.receiving import Receiving, prove

DROP_IN = "/etc/containers/registries.conf.d/999-buildset-registry.conf"
#: A port of the loopback at which nothing listens.
DEAD = 9


@pytest.fixture
def node(place: Place, registry: Receiving) -> Place:
    """A node with skopeo, which is configured and gets what was pushed."""
    place.use("containers", **registry.facts)
    program(place, "skopeo", f"cat {registry.manifest}")
    return place


def program(place: Place, name: str, *lines: str) -> None:
    """Put a client's program on the node's PATH."""
    place.write(f"/bin/{name}", "\n".join(["#!/bin/sh", *lines, ""]), 0o755)


def said(place: Place, client: str, registry: Receiving, **facts: object) -> str:
    """Try clients that fail; the one line of the error."""
    with pytest.raises(ClientError) as caught:
        prove(place, client, **{**registry.facts, **facts})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_canary_is_pushed_by_every_name_and_leaves_nothing(
    node: Place, registry: Receiving
) -> None:
    """Two blobs and a manifest for each registry; all are gone afterwards."""
    assert prove(node, "containers", **registry.facts) == ["skopeo"]
    prefixes = ["", "quay.io/", "registry.example.com__5000/"]
    for prefix in prefixes:
        folder = f"/v2/{prefix}buildset-registry/canary/"
        assert len([one for one in registry.taken if one.startswith(folder)]) == 3
    assert registry.held == set()


def test_the_registry_is_told_what_became_of_the_canary(node: Place, registry: Receiving) -> None:
    """By a request for what is at no registry, in one line; a failure in the words of the error."""
    prove(node, "containers", **registry.facts)
    program(node, "skopeo", "printf 'no space left\\n\\303\\244' >&2; exit 1")
    message = said(node, "containers", registry)
    (path, found), (_path, failed) = registry.told
    assert path == "/v2/localhost/buildset-registry/canary/manifests/said"
    assert found == "buildset-registry-canary (found by skopeo)"
    assert failed.isascii() and len(failed) <= 500
    assert failed.removeprefix("buildset-registry-canary (")[:40] == message[:40]


def test_nothing_is_left_where_a_client_fails(node: Place, registry: Receiving) -> None:
    """It is removed after a failure as well."""
    program(node, "skopeo", "exit 1")
    said(node, "containers", registry)
    assert registry.taken
    assert registry.held == set()


SAYINGS = {
    "fallback: it asked docker.io itself, though": "echo 'manifest unknown' >&2; exit 1",
    "client: it fails before it asks a registry": "echo 'no space left on device' >&2; exit 1",
    "policy: its policy.json takes no image": "echo 'A signature was required' >&2; exit 1",
    "auth: a credential helper fails": "echo 'error getting credentials: exec' >&2; exit 1",
    "auth: /run/containers/7/auth.json may not be read; give": "echo 'getting username and "
    "password: open /run/containers/7/auth.json: permission denied' >&2; exit 1",
}


@pytest.mark.parametrize("layer", SAYINGS)
def test_the_words_of_a_client_that_fails_tell_the_layer(
    node: Place, registry: Receiving, layer: str
) -> None:
    """They are told as well."""
    program(node, "skopeo", SAYINGS[layer])
    message = said(node, "containers", registry)
    assert f"canary: skopeo, docker.io: {layer}" in message
    assert "[skopeo says: " in message


def test_another_image_is_a_fallback(node: Place, registry: Receiving) -> None:
    """A client that gets the public image has not failed by its own account."""
    program(node, "skopeo", "echo another image")
    message = said(node, "containers", registry)
    assert "fallback: it asked docker.io itself, though" in message
    assert "instead of sha256:" in message


def test_credentials_that_are_refused_are_at_fault(node: Place, registry: Receiving) -> None:
    """The client names the registry in its complaint."""
    address = f"127.0.0.1:{registry.facts['port']}"
    program(node, "skopeo", f"echo '{address}: authentication required' >&2; exit 1")
    assert f"auth: {address} refuses" in said(node, "containers", registry)


def test_a_configuration_without_the_mirror_is_at_fault(node: Place, registry: Receiving) -> None:
    """It says where a mirror was looked for."""
    program(node, "skopeo", "exit 1")
    (node.root / DROP_IN[1:]).unlink()
    assert "is not its mirror, registries.conf has none" in said(node, "containers", registry)


def test_the_folder_of_a_stale_certificate_is_named(node: Place, registry: Receiving) -> None:
    """It is the one that the client takes its certificates from."""
    program(node, "skopeo", "exit 1")
    folder = f"/etc/containers/certs.d/127.0.0.1:{registry.facts['port']}"
    other = trustme.CA().cert_pem.bytes().decode()
    node.write(f"{folder}/buildset-registry.crt", other)
    assert f"TLS: what is in {folder} does not verify" in said(node, "containers", registry)


@pytest.mark.parametrize(
    ("facts", "layer"),
    [
        ({"host": "registry.invalid"}, "name: registry.invalid does not resolve"),
        ({"port": DEAD}, f"network: 127.0.0.1:{DEAD} cannot be reached"),
    ],
)
def test_a_pull_endpoint_out_of_reach_is_at_fault(
    place: Place, registry: Receiving, facts: dict[str, object], layer: str
) -> None:
    """Pushing goes well, and the client cannot pull."""
    place.use("containers", **{**registry.facts, **facts})
    program(place, "skopeo", "exit 1")
    assert f"docker.io: {layer}" in said(place, "containers", registry, **facts)


def test_docker_that_has_not_read_its_file_has_no_mirror(place: Place, registry: Receiving) -> None:
    """The mirrors that the daemon which runs knows are those that count."""
    place.use("docker", **registry.facts)
    program(place, "docker", '[ "$1" = info ] && echo "[]" && exit', "exit 1")
    message = said(place, "docker", registry)
    assert "docker, docker.io: configuration: " in message
    assert "the daemon that runs has none" in message


@pytest.mark.parametrize(
    ("facts", "layer"),
    [
        ({"push_host": "registry.invalid"}, "name: registry.invalid does not resolve"),
        ({"push_port": DEAD}, f"network: 127.0.0.1:{DEAD} cannot be reached"),
        (
            {"cert": trustme.CA().cert_pem.bytes().decode()},
            "TLS: cert does not verify 127.0.0.1:",
        ),
    ],
)
def test_no_client_is_blamed_for_facts_that_are_wrong(
    node: Place, registry: Receiving, facts: dict[str, object], layer: str
) -> None:
    """The push endpoint, which the role itself uses, cannot be used by them."""
    assert said(node, "containers", registry, **facts).startswith(f"canary: {layer}")


@pytest.mark.parametrize(
    ("status", "layer"),
    [(401, "auth: 127.0.0.1:"), (403, "auth: 127.0.0.1:"), (500, "127.0.0.1:")],
)
def test_the_refusal_of_a_push_endpoint_is_told(
    node: Place, registry: Receiving, status: int, layer: str
) -> None:
    """By its status."""
    registry.refusal = status
    message = said(node, "containers", registry)
    assert message.startswith(f"canary: {layer}")
    assert str(status) in message
