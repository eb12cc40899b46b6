# SPDX-License-Identifier: Apache-2.0
"""Arguments of any kind: taken, or refused in one line that names the variable."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_clients import arguments
from buildset_clients.errors import ClientError

from tests.use.places import CERTIFICATE, FACTS, NAMESPACES

GIVEN: dict[str, Any] = {
    "state": "present",
    "registry": FACTS,
    "alias": "zuul-jobs.buildset-registry",
    "namespaces": NAMESPACES,
    "restart_commands": {},
}


@pytest.mark.parametrize(
    "facts",
    [
        {"host": "2001:db8::1", "push_host": None, "push_port": None, "proxy_port": None},
        {"host": "registry.example.com", "port": 443},
        {"cert": f"  \n{CERTIFICATE}\n{CERTIFICATE}".replace("\n", "\r\n")},
    ],
)
def test_facts_of_every_form_are_taken(facts: dict[str, Any]) -> None:
    """Names and addresses, one endpoint or two, a chain of certificates."""
    arguments.check({**GIVEN, "registry": {**FACTS, **facts}})


WRONG: list[tuple[str, Any]] = [
    ("cert", "not a pem"),
    ("cert", ""),
    ("cert", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
    ("cert", CERTIFICATE.replace("\n", "\\n")),
    ("cert", CERTIFICATE.replace("M", "ü")),
    ("cert", f"{CERTIFICATE}-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
    ("host", ""),
    ("host", "https://registry"),
    ("host", "registry:5000"),
    ("host", "[2001:db8::1]"),
    ("push_host", "a b"),
    ("port", 0),
    ("port", 70000),
    ("push_port", -1),
    ("username", ""),
    ("username", "a:b"),
    ("password", ""),
    ("password", "not-to-be\nseen"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_fact_that_cannot_be_meant_is_named(name: str, value: Any) -> None:
    """In one line, without a password."""
    with pytest.raises(ClientError, match=rf"^buildset_registry\.{name} .*; ") as caught:
        arguments.check({**GIVEN, "registry": {**FACTS, name: value}})
    assert "not-to-be" not in str(caught.value)
    assert "cadata" not in str(caught.value)


@pytest.mark.parametrize(
    "pair", [["docker.io"], [], ["a", "b", "c"], ["a", None], [1, 2], ["a", ["b"]], ["", "x"]]
)
def test_namespace_without_a_name_and_a_url_is_named(pair: list[Any]) -> None:
    """By its place in the list, and with one as it should be."""
    with pytest.raises(ClientError, match=r"^buildset_registry_namespaces\[1\] is .*docker\.io"):
        arguments.check({**GIVEN, "namespaces": [["quay.io", "https://quay.io"], pair]})


def test_namespace_that_is_there_twice_is_what_is_said_last() -> None:
    """In the place of the first."""
    found = arguments.namespaces([["a", "1"], ["b", "2"], ["a", "3"]])
    assert found == [["a", "3"], ["b", "2"]]


def test_command_may_be_a_list_of_words() -> None:
    """Each word stays one."""
    given = {"containerd": ["/bin/sh", "-c", "a b"], "docker": "x y"}
    assert arguments.commands(given) == {"containerd": "/bin/sh -c 'a b'", "docker": "x y"}


@pytest.mark.parametrize("command", [None, "", [], {}, 1, [1], ["a", None], "'open"])
def test_command_that_is_none_is_named(command: Any) -> None:
    """With its client."""
    with pytest.raises(ClientError, match=r"^buildset_registry_restart_commands\.k3s is .*; "):
        arguments.check({**GIVEN, "restart_commands": {"k3s": command}})
