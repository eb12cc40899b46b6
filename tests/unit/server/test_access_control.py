# SPDX-License-Identifier: Apache-2.0
"""Mistakes that keep a registry from starting: keys that are not there, or not good enough."""

from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import parse
from buildset_registry.errors import ConfigError
from buildset_registry.server.access_control import AccessControl

TOKEN = {"service": "registry", "issuer": "tokens", "jwks": "jwks.json"}


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({"token_key": "none"}, "cannot read auth.token_key .*none: No such file"),
        ({"token_key": "short"}, "short is shorter than 32 bytes; make a new one"),
        ({"htpasswd": "none"}, "cannot read auth.htpasswd .*none"),
        ({"token": {"realm": "tokens.example", **TOKEN}}, "auth.token.realm 'tokens.example' is"),
        ({"token": {"realm": "https://t", **TOKEN}}, "cannot read .*jwks.json"),
    ],
)
def test_a_mistake_in_auth_is_one_line(tmp_path: Path, auth: dict[str, Any], message: str) -> None:
    """At the start, in words that say which setting it is."""
    (tmp_path / "short").write_bytes(b"x" * 31)
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "data", "auth": auth}
    with pytest.raises(ConfigError, match=message) as caught:
        AccessControl(parse(tree, "config.yaml", tmp_path).auth, frozenset())
    assert "\n" not in str(caught.value)
