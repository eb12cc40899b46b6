# SPDX-License-Identifier: Apache-2.0
"""Whatever a configuration and its files hold: it is taken, or refused in one line."""

import asyncio
import contextlib
import dataclasses
import io
import types
import typing
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildset_registry.cli import main
from buildset_registry.config import Config, Duration, load, parse
from buildset_registry.errors import ConfigError
from buildset_registry.oci.hosts import RegistryHost
from buildset_registry.oci.patterns import RepositoryPattern, TagPattern
from buildset_registry.server.build import build

ODD: list[Any] = [
    None, True, -1, 0, 1, 70_000, 10**30, 1.5, float("nan"), "", "a", "\0", "a\0b", "\ud800",
    "~nobody-is-called-so/x", "/", ".", "http://[::1", "http://[::1]:99999", "http://x:y", "http://",
    "https://u:p@[v1.x]:0/", "//x", "10.0.0.0/99", "2001:db8::/200", "x" * 10_000, "a\nb",
    [], [None], [[]], [{}], ["\0"], {}, {"a": None}, {1: 2}, {"a\0": "b"}, {"\ud800": "b"},
    {"a": {}},
]  # fmt: skip

CONTENTS = {
    "empty": b"",
    "garbage": b"garbage",
    "not UTF-8": b"\xff\xfe\x00",
    "NUL": b"\0" * 100,
    "deep": b"[" * 100_000,
    "a number": b"1",
    "keys that are none": b'{"keys": ["x", 1, null]}',
    "a key of another kind": b'{"keys": [{"kty": "zz"}]}',
    "an incomplete key": b'{"keys": [{"kty": "RSA"}]}',
    "bad base64": b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "!", "y": 1}]}',
    "no keys": b'{"keys": {}}',
    "PEM of nothing": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "a key of nothing": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
}

#: A value of each kind of field; any other is a network.
EXAMPLES: dict[object, Any] = {
    int: 60,
    bool: True,
    Path: "x",
    str: "https://a.example",
    RegistryHost: "a.example",
    RepositoryPattern: "org/app",
    TagPattern: "v*",
    Duration: "7d",
}


def _example(hint: object) -> Any:
    """Return a value of a kind, each field in it, to put odd values into."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return {one.name: _example(hints[one.name]) for one in dataclasses.fields(hint)}
    kinds = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return [_example(kinds[0])]
    if origin in (types.UnionType, typing.Union):
        return _example(kinds[0])
    if origin is typing.Literal:
        return kinds[0]
    if origin is dict:
        return {"a": "b"}
    return EXAMPLES.get(hint, "10.0.0.0/8")


def _places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of all values in a tree."""
    if not isinstance(tree, dict | list):
        return [place]
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree)
    below = [found for key, value in inside for found in _places(value, (*place, key))]
    return [place, *below]


def _with(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[place[0]] = _with(copy[place[0]], place[1:], value)
    return copy


def _sound() -> Any:
    tree = _example(Config)
    del tree["acme"]  # it has a certificate by files
    tree["endpoints"]["single"] = None
    tree["retention"]["rules"][0]["protect"] = None
    return tree


def test_any_value_at_any_place_is_taken_or_refused_in_a_line() -> None:
    sound = _sound()
    refused = 0
    parse(sound, "config.yaml", Path("/etc"))
    for place in _places(sound):
        for value in ODD:
            try:
                parse(_with(sound, place, value), "config.yaml", Path("/etc"))
            except ConfigError as error:
                refused += 1
                assert "\n" not in str(error) or value == "a\nb", place
    assert refused > 1000


@pytest.mark.parametrize("content", [*CONTENTS.values(), b"a: \xff", b"{[]: 1}", b"2001-99-99"])
def test_any_file_is_a_configuration_or_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert "\n" not in str(refused.value)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["serve", "--config", str(file)]) == 2
    assert errors.getvalue().count("\n") == 1


SETTINGS: dict[str, Any] = {
    "htpasswd": {"auth": {"htpasswd": "file"}},
    "token key": {"auth": {"token_key": "file"}},
    "tls": {"tls": {"certificate": "file", "key": "file"}},
    "ca of an upstream": {"upstreams": [{"name": "q.io", "url": "https://q.io", "ca": "file"}]},
    "ca of a receiver": {"notifications": [{"name": "a", "url": "https://a", "ca": "file"}]},
    "jwks": {
        "auth": {"token": {"realm": "https://a/", "service": "a", "issuer": "a", "jwks": "file"}}
    },
    "certificates": {
        "auth": {
            "token": {
                "realm": "https://a/",
                "service": "a",
                "issuer": "a",
                "rootcertbundle": "file",
            }
        }
    },
}


@pytest.mark.parametrize("content", [*CONTENTS, "a folder", "missing"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_any_content_of_a_file_is_used_or_refused_in_a_line(
    tmp_path: Path, setting: str, content: str
) -> None:
    file = tmp_path / "file"
    if content == "a folder":
        file.mkdir()
    elif content != "missing":
        file.write_bytes(CONTENTS[content])
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "memory"} | SETTINGS[setting]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))

    async def start() -> None:
        async with AsyncExitStack() as stack:
            await build(load(config), io.StringIO(), stack)

    try:
        asyncio.run(start())
    except ConfigError as error:
        assert "\n" not in str(error)
