# SPDX-License-Identifier: Apache-2.0
"""What users give besides the facts is in normal form, or refused in one line before any write."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_clients import main
from buildset_clients.errors import ClientError
from buildset_clients.namespaces import normal

from tests.use.places import Place, make_setup

HUB = ("docker.io", "https://registry-1.docker.io")
QUAY = ("quay.io", "https://quay.io")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["Docker.IO", "https://docker.io/"], HUB),
        (["index.docker.io", "https://index.docker.io"], HUB),
        (["registry-1.docker.io", "https://registry-1.docker.io:443/"], HUB),
        (["quay.io:443", "https://quay.io/"], QUAY),
        (("QUAY.io", " https://quay.io "), QUAY),
        (["localhost:5000", "http://localhost:5000"], ("localhost:5000", "http://localhost:5000")),
        (["[::1]:5000", "https://[::1]:5000"], ("[::1]:5000", "https://[::1]:5000")),
        (["quay.io", "https://mirror.example.com/v2/quay"], ("quay.io",) * 2),
    ],
)
def test_a_registry_has_one_name_and_the_address_of_its_api(
    given: Any, wanted: tuple[str, str]
) -> None:
    """However people write either; a mirror's path stays."""
    (found,) = normal([given])
    assert found[0] == wanted[0]
    assert found[1] == (given[1] if "mirror" in given[1] else wanted[1])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["https://docker.io/", HUB[1]], "'https://docker.io/' is no name.*write docker.io$"),
        (["quay.io/org", QUAY[1]], "'quay.io/org' is no name of a registry; write quay.io$"),
        (["quay io", QUAY[1]], "'quay io' is no name of a registry; write such as quay.io"),
        (["quay.io", "quay.io"], "'quay.io' is no URL of a registry; write https://HOST"),
        (["quay.io", "ftp://me:my-own@quay.io"], "'ftp://quay.io' is no URL"),
        (["quay.io", "https://quay.io:port"], "is no URL"),
        (["quay.io", "https://"], "is no URL"),
        (["docker.io"], r"\['docker.io'\] is not a list of a name and a URL; write"),
        ([1, "https://quay.io"], "is not a list of a name and a URL"),
        (["quay.io", None], "is not a list of a name and a URL"),
        ([], r"\[\] is not a list of a name and a URL"),
        (["a", "b", "c"], "is not a list of a name and a URL"),
        (["a", ["b"]], "is not a list of a name and a URL"),
        (["", "x"], "is not a list of a name and a URL"),
        (["quay.io", "https://quay.io/\n/x"], "has a space or a control character"),
        (["quay.io", "https://quay.io/a b"], "has a space or a control character"),
        ("quay.io", "'quay.io' is not a list of a name and a URL"),
    ],
)
def test_what_is_no_registry_is_refused_with_what_to_write(given: Any, words: str) -> None:
    """The variable is named; a password that a URL has is not told."""
    with pytest.raises(ClientError, match=words) as caught:
        normal([list(HUB), given])
    message = str(caught.value)
    assert message.startswith("buildset_registry_namespaces: ")
    assert "\n" not in message
    assert "my-own" not in message


def test_a_registry_that_is_named_twice_is_one_or_refused() -> None:
    """The same once more is no harm; of two addresses none is the right one."""
    assert normal([list(HUB), ["DOCKER.io", "https://docker.io"], list(QUAY)]) == [HUB, QUAY]
    with pytest.raises(ClientError, match=r"names quay\.io twice, with https://quay\.io and"):
        normal([list(QUAY), ["Quay.io", "https://other.example.com"]])


@pytest.mark.parametrize("name", ["containerdd", "kind", "buildx"])
def test_a_command_for_what_is_no_daemon_is_refused(place: Place, name: str) -> None:
    """With the variable's name and the clients that have one; before anything is written."""
    words = f"{name} is no client that is restarted; clients with a daemon are containers, docker,"
    before = place.tree()
    for act in (main.restore, lambda order, node: main.use(order, make_setup(), node)):
        with pytest.raises(ClientError, match=f"^buildset_registry_restart_commands: {words}"):
            act(main.Order(commands={name: "/bin/true"}), place.node)
    assert place.tree() == before
