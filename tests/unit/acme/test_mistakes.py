# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the section ``acme`` of the configuration, each of which is one line."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import parse
from buildset_registry.errors import ConfigError
from buildset_registry.server import acme as server_acme
from buildset_registry.server.certificates import certificate_of
from buildset_registry.store.memory import MemoryStore

TLS = {"certificate": "server.pem", "key": "server.key"}


@pytest.mark.parametrize(
    ("acme", "words"),
    [
        ({"names": []}, "acme.names is empty"),
        ({"names": ["*.example.com"]}, "a wildcard cannot be proved by HTTP-01"),
        ({"directory": "acme.example"}, "acme.directory: 'acme.example' is not"),
        ({"port": 0}, "acme.port must be a port"),
        ({"ca": "/nowhere/ca.pem"}, "cannot read acme.ca /nowhere/ca.pem"),
        ({"external_account": {"keyid": "1"}}, "set either hmac or hmac_file"),
        ({"external_account": {"keyid": "1", "hmac": "a b"}}, "is not base64url"),
        ({"external_account": {"keyid": "1", "hmac": 12}}, "must be a string, not (hidden)"),
        ({"external_account": {"keyid": "1", "hmac_file": "none"}}, "No such file"),
        ({}, "acme.folder is missing, and storage keeps nothing"),
    ],
)
async def test_a_mistake_is_one_line(tmp_path: Path, acme: dict[str, Any], words: str) -> None:
    """It says what is wrong, and what to do."""
    assert words in await refusal(tmp_path, acme={"names": ["registry.example.com"], **acme})


@pytest.mark.parametrize(
    ("shown", "setting"),
    [
        ({"redirect": {"base_url": "https://cdn.example.com"}}, "redirect.base_url"),
        ({"s3": {"bucket": "images", "objectacl": "public-read"}}, "s3.objectacl"),
    ],
)
def test_private_keys_are_not_put_where_everybody_reads(
    tmp_path: Path, shown: dict[str, Any], setting: str
) -> None:
    """A host that serves the bucket would serve them, too; in a folder they are out of reach."""
    acme = {"names": ["registry.example.com"]}
    tree = {
        "endpoints": {"single": {"port": 5000}},
        "storage": {"s3": {"bucket": "images"}} | shown,
    }
    with pytest.raises(ConfigError, match=rf"storage\.{setting} may show .* set acme\.folder"):
        parse({**tree, "acme": acme}, "config.yaml", tmp_path)
    parse({**tree, "acme": {**acme, "folder": "acme"}}, "config.yaml", tmp_path)


async def test_two_certificates_are_one_too_many(tmp_path: Path) -> None:
    """It is not guessed which one is meant."""
    words = "tls and acme both name a certificate; keep one of them"
    assert words in await refusal(tmp_path, acme={"names": ["registry.example.com"]}, tls=TLS)


async def test_a_library_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the extra that brings it."""
    monkeypatch.setattr(server_acme, "find_spec", lambda _name: None)
    words = "install buildset-registry[acme]"
    assert words in await refusal(tmp_path, acme={"names": ["registry.example.com"]})


async def refusal(folder: Path, **sections: Any) -> str:
    """Return why a registry does not start."""
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "memory", **sections}
    with pytest.raises(ConfigError) as caught:
        async with AsyncExitStack() as stack:
            await certificate_of(parse(tree, "config.yaml", folder), MemoryStore(), stack)
    assert "\n" not in str(caught.value)
    return str(caught.value)
