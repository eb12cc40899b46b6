# SPDX-License-Identifier: Apache-2.0
"""Arguments of any kind: taken, or refused in one line that names the variable."""

from __future__ import annotations

from typing import Any

import pytest
from buildset_clients import arguments
from buildset_clients.errors import ClientError

from tests.use.places import CERTIFICATE, FACTS

GIVEN: dict[str, Any] = {
    "state": "present",
    "registry": FACTS,
    "alias": "zuul-jobs.buildset-registry",
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
    ("cert", None),
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


def test_a_command_to_restart_a_daemon_is_a_line_or_a_list_of_words() -> None:
    """Each word stays one, as a shell has it."""
    given = {
        "containerd": ["/bin/sh", "-c", "stop it; start it"],
        "docker": "/opt/restart 'the one'",
    }
    assert arguments.commands(given) == {
        "containerd": "/bin/sh -c 'stop it; start it'",
        "docker": "/opt/restart 'the one'",
    }


@pytest.mark.parametrize(
    "command", [None, "", " ", [], {}, {"x": 1}, 1, [1], ["a", None], ["", " "], "'open"]
)
def test_command_that_is_none_is_named(command: Any) -> None:
    """With its client; a command of nothing would not be missed until it is needed."""
    with pytest.raises(ClientError, match=r"^buildset_registry_restart_commands\.k3s is .*; "):
        arguments.check({**GIVEN, "restart_commands": {"k3s": command}})
