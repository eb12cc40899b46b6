# SPDX-License-Identifier: Apache-2.0
"""policy.json that wants signatures, which a buildset's images have not: refused, or relaxed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.errors import ClientError

from tests.use.places import Place, make_setup

PATH, OWN = "/etc/containers/policy.json", ".config/containers/policy.json"
ANY = [{"type": "insecureAcceptAnything"}]
SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/pki/key"}]
SIGSTORE = [{"type": "sigstoreSigned", "keyPath": "/etc/pki/key"}]
REJECT = [{"type": "reject"}]
#: Policies that people have, the words of the refusal, and the scopes that are relaxed.
POLICIES: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "a registry": (
        {"default": ANY, "transports": {"docker": {"quay.io": SIGNED, "r.example.org": SIGNED}}},
        r'transports.docker "quay.io" wants signatures \(signedBy\)',
        ["quay.io"],
    ),
    "an organisation": (
        {"default": REJECT, "transports": {"docker": {"": ANY, "quay.io/org": SIGSTORE}}},
        r'transports.docker "quay.io/org" wants signatures \(sigstoreSigned\)',
        ["quay.io/org"],
    ),
    "the default": (
        {"default": SIGNED, "transports": {"docker-daemon": {"": ANY}}},
        "its default wants signatures",
        ["docker.io", "quay.io", "registry.example.com:5000"],
    ),
    "the transport": (
        {"default": ANY, "transports": {"docker": {"": SIGNED, "docker.io": ANY}}},
        r'transports.docker "" wants signatures',
        ["quay.io", "registry.example.com:5000"],
    ),
    "a wildcard": (
        {"default": ANY, "transports": {"docker": {"*.example.com": SIGNED}}},
        r'"\*.example.com" wants signatures',
        ["registry.example.com:5000"],
    ),
    "a wildcard above": (
        {
            "default": ANY,
            "transports": {"docker": {"*.com": SIGNED, "*.example.com": ANY, "*.io": SIGNED}},
        },
        r'"\*.io" wants signatures',
        ["docker.io", "quay.io"],
    ),
    "something new": (
        {"default": [{"type": "fancySigned"}]},
        "fancySigned",
        ["docker.io", "quay.io", "registry.example.com:5000"],
    ),
}


def use(place: Place, relaxed: bool = True) -> dict[str, Any]:
    """Configure the tools."""
    order = main.Order(clients=["containers"])
    return main.use(order, replace(make_setup(), relaxed=relaxed), place.node)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_wants_signatures_is_refused(place: Place, name: str) -> None:
    """The line has the file, the scope and the variable; nothing is written."""
    policy, words, _scopes = POLICIES[name]
    place.write(PATH, json.dumps(policy))
    before = place.tree()
    with pytest.raises(ClientError, match=words) as caught:
        use(place, relaxed=False)
    message = str(caught.value)
    assert message.startswith(f"{PATH}: ")
    assert "buildset_registry_signature_policy: relax" in message
    assert "\n" not in message
    assert place.tree() == before


@pytest.mark.parametrize("name", POLICIES)
def test_just_the_scopes_of_ours_are_relaxed_and_restored(place: Place, name: str) -> None:
    """All others stay; a second run changes nothing."""
    policy, _words, scopes = POLICIES[name]
    place.write(PATH, json.dumps(policy))
    before = place.tree()
    use(place)
    docker = policy.get("transports", {}).get("docker", {})
    relaxed = {**docker, **dict.fromkeys(scopes, ANY)}
    transports = {**policy.get("transports", {}), "docker": relaxed}
    assert json.loads(place.read(PATH)) == {**policy, "transports": transports}
    assert not use(place)["changed"]
    place.restore()
    assert place.tree() == before


HARMLESS = {
    "everything": {"default": ANY},
    "others": {"default": REJECT, "transports": {"docker": {"": ANY, "r.example.org": SIGNED}}},
    "an organisation that is rejected": {
        "default": ANY,
        "transports": {"docker": {"quay.io/bad": REJECT}},
    },
    "another transport": {"default": ANY, "transports": {"atomic": {"quay.io": SIGNED}}},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_policy_without_anything_against_us_stays(place: Place, name: str) -> None:
    """Whether or not it may be relaxed."""
    text = json.dumps(HARMLESS[name])
    place.write(PATH, text)
    for relaxed in (False, True):
        use(place, relaxed)
        assert place.read(PATH) == text


def test_what_is_rejected_is_never_let_in(place: Place) -> None:
    """That is no wish for signatures; the line says what to do."""
    place.write(PATH, json.dumps({"default": REJECT, "transports": {"docker": {"quay.io": ANY}}}))
    words = "its default rejects images of docker.io; .* buildset_registry_namespaces"
    with pytest.raises(ClientError, match=words):
        use(place)


def test_a_user_s_own_policy_is_in_the_system_s_place(place: Place) -> None:
    """Root has one as well; both count on one node, for the daemon and for root."""
    place.write(f"/root/{OWN}", json.dumps({"default": SIGNED}))
    with pytest.raises(ClientError, match=f"/root/{OWN}"):
        use(place, relaxed=False)
    use(place)
    assert "docker.io" in place.read(f"/root/{OWN}")
    place.restore()
    assert json.loads(place.read(f"/root/{OWN}")) == {"default": SIGNED}


def test_a_user_without_root_gets_a_policy_of_his_own(users_place: Place) -> None:
    """The system's, relaxed; it goes again."""
    users_place.write(PATH, json.dumps({"default": SIGNED, "transports": {}}))
    with pytest.raises(ClientError, match=f"^{PATH}: "):
        use(users_place, relaxed=False)
    use(users_place)
    found = json.loads(users_place.read(f"/home/someone/{OWN}"))
    assert found["default"] == SIGNED
    assert found["transports"]["docker"]["quay.io"] == ANY
    assert not use(users_place)["changed"]
    users_place.restore()
    assert not (users_place.root / "home/someone/.config").exists()


def test_a_user_s_own_policy_without_anything_against_us_stays(users_place: Place) -> None:
    """The system's does not count for him."""
    users_place.write(PATH, json.dumps({"default": SIGNED}))
    users_place.write(f"/home/someone/{OWN}", json.dumps({"default": ANY}))
    use(users_place, relaxed=False)
    assert json.loads(users_place.read(f"/home/someone/{OWN}")) == {"default": ANY}


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ("", "/etc/crio/policy.json"),
        ('[crio.image]\nsignature_policy = "/etc/p.json"\n', "/etc/p.json"),
        ("", "/etc/crio/policies/default.json"),
    ],
)
def test_cri_o_s_policies_count(place: Place, settings: str, path: str) -> None:
    """The one of its packages, that which its files name, those of Kubernetes namespaces."""
    place.write("/etc/crio/crio.conf.d/10-crio.conf", settings)
    place.write(path, json.dumps({"default": SIGNED}))
    with pytest.raises(ClientError, match=path):
        use(place, relaxed=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"default": {}}', "default is not a list"),
        ('{"transports": {"docker": []}}', "docker is not an object"),
        ("{\n oops", "line 2"),
    ],
)
def test_a_policy_that_is_none_is_named(place: Place, text: str, words: str) -> None:
    """With the place."""
    place.write(PATH, text)
    with pytest.raises(ClientError, match=f"{PATH}.*{words}"):
        use(place)
