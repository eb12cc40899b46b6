# SPDX-License-Identifier: Apache-2.0
"""The Authorization header."""

from base64 import b64encode

import pytest
from buildset_registry.auth.authenticator import Basic, Bearer, parse_authorization
from buildset_registry.errors import Unauthorized


def basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (None, None),
        ("", None),
        (basic("ci:secret"), Basic("ci", "secret")),
        (basic("ci:a:b"), Basic("ci", "a:b")),
        (basic("ci:"), Basic("ci", "")),
        (basic("jürgen:pässword"), Basic("jürgen", "pässword")),
        (basic(":"), None),
        (basic("ci:x").replace("Basic", "bAsIc"), Basic("ci", "x")),
        ("Bearer abc", Bearer("abc")),
        ("bearer  abc ", Bearer("abc")),
    ],
)
def test_what_a_header_holds(header: str | None, credentials: Basic | Bearer | None) -> None:
    """The scheme's case does not count; docker's empty pair is nobody."""
    assert parse_authorization(header) == credentials


@pytest.mark.parametrize("header", ["Digest x", "Basic !", basic("no-colon"), "Basic /w==", "x"])
def test_a_malformed_header_is_refused(header: str) -> None:
    """Never taken for nobody: the client meant to say who it is."""
    with pytest.raises(Unauthorized):
        parse_authorization(header)


def test_secrets_are_in_no_repr() -> None:
    """A traceback or a log line cannot give them away."""
    assert "secret" not in repr(Basic("ci", "secret")) + repr(Bearer("secret"))
