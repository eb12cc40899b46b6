# SPDX-License-Identifier: Apache-2.0
"""The configuration: typed, with defaults, and every mistake one line."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.config import load, parse
from buildset_registry.config.model import Config
from buildset_registry.errors import ConfigError
from buildset_registry.oci.hosts import DOCKER_HUB

CLOUDFRONT = {"baseurl": "d111.example.net", "privatekey": "cf.pem", "keypairid": "KEY"}
MINIMAL = {"endpoints": {"single": {"port": 5000}}, "storage": "data"}


def parsed(**changes: Any) -> Config:
    return parse(MINIMAL | changes, "config.yaml", Path("/etc/registry"))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A registry's folder can be moved as a whole."""
    file = tmp_path / "config.yaml"
    file.write_text("endpoints: {single: {port: 5000}}\nstorage: data\n")
    config = load(file)
    assert config.storage == tmp_path / "data"
    assert config.tls is None
    assert config.auth.anonymous_pull


def test_the_word_memory_is_no_folder() -> None:
    """Everything else is a path."""
    assert parsed(storage="memory").storage == "memory"
    assert parsed(storage="./memory").storage == Path("/etc/registry/memory")


def test_every_kind_of_value_is_read() -> None:
    """Sections, lists, numbers, flags, paths and networks."""
    config = parsed(
        auth={"allowed_networks": ["10.0.0.0/8", "::1"], "token_seconds": 60, "htpasswd": None},
        tls={"certificate": "/a.pem", "key": "b.pem"},
        upstreams=[
            {"name": "quay.io", "url": "https://quay.io", "username": "u", "password": "secret"}
        ],
    )
    assert config.auth.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert config.tls is not None
    assert config.tls.key == Path("/etc/registry/b.pem")
    assert config.upstreams[0].private
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bogus": 1}, "unknown key bogus; known here: endpoints, storage, "),
        ({"auth": {"htpaswd": "x"}}, "unknown key auth.htpaswd; known here: htpasswd, "),
        ({"storage": None}, "storage is missing; set it"),
        ({"storage": 1}, "storage must be a path, not 1"),
        ({"ledger": {}}, "ledger.folder is missing; set it: only an object store keeps a ledger"),
        ({"endpoints": {"single": {"port": "a"}}}, "endpoints.single.port must be a number, "),
        ({"endpoints": {"single": {"port": 0}}}, "port from 1 to 65535, not 0"),
        ({"endpoints": {"single": {"port": True}}}, "endpoints.single.port must be a number"),
        ({"endpoints": {}}, "endpoints needs either single, or pull and push"),
        ({"endpoints": {"single": {"port": 1}, "pull": {"port": 2}}}, "endpoints needs either"),
        ({"endpoints": 3}, "endpoints must be a mapping, not 3"),
        ({"auth": {"anonymous_pull": "yes"}}, "anonymous_pull must be true or false, not 'yes'"),
        ({"auth": {"allowed_networks": "10.0.0.0/8"}}, "allowed_networks must be a list"),
        ({"auth": {"allowed_networks": ["x"]}}, "allowed_networks[0] must be a network such as"),
        (
            {"auth": {"rules": [{"repositories": ["**"], "actions": ["fly"]}]}},
            "auth.rules[0].actions[0] must be one of pull, push, delete, *, not 'fly'",
        ),
        (
            {"notifications": [{"name": "a", "url": "ftp://a"}]},
            "notifications: a: 'ftp://a' is not an https:// or http:// URL",
        ),
        (
            {"notifications": [{"name": "a", "url": "https://a", "headers": {"X": 1234}}]},
            "notifications[0].headers.X must be a string, not (hidden)",
        ),
        (
            {"notifications": [{"name": "a", "url": "https://a", "headers": "X: 1"}]},
            "notifications[0].headers must be a mapping, not (hidden)",
        ),
        ({"auth": {"rules": [{"actions": ["pull"]}]}}, "rules[0].repositories is missing"),
        (
            {"auth": {"token": {"realm": "https://t", "service": "s", "issuer": "i"}}},
            "auth.token has no key to verify tokens with; set rootcertbundle or jwks",
        ),
        ({"upstreams": [{"name": "a", "url": "a"}]}, "'a' is not an https:// or http:// URL"),
        (
            {"upstreams": [{"name": "a", "url": "https://a", "username": "u"}]},
            "upstream a: give username and password, or neither",
        ),
        ({"upstreams": [{"name": "a", "url": "https://a"}] * 2}, "upstream a is listed twice"),
        (
            {
                "upstreams": [
                    {"name": n, "url": "https://a"} for n in ("index.docker.io", DOCKER_HUB)
                ]
            },
            "upstream docker.io is listed twice (upstreams[0] and upstreams[1] name it); keep one",
        ),
        (
            {"upstreams": [{"name": n, "url": "https://a"} for n in ("quay.io.:443", "Quay.io")]},
            "upstream quay.io is listed twice",
        ),
        (
            {"storage": {"gcs": {"bucket": "a"}, "redirect": {"base_url": "u:p@a"}}},
            "storage.redirect.base_url '(hidden)@a' is not an https:// or http:// URL",
        ),
        (
            {"storage": {"gcs": {"bucket": "a"}, "redirect": {"cloudfront": CLOUDFRONT}}},
            "storage.redirect.cloudfront needs a bucket of S3; set storage.s3",
        ),
        (
            {
                "storage": {
                    "s3": {"bucket": "a"},
                    "redirect": {"cloudfront": CLOUDFRONT, "base_url": "https://a"},
                }
            },
            "storage.redirect sends clients to base_url or to cloudfront, not to both",
        ),
        (
            {
                "storage": {
                    "s3": {"bucket": "a"},
                    "redirect": {"cloudfront": {**CLOUDFRONT, "baseurl": "ftp://a"}},
                }
            },
            "storage.redirect.cloudfront.baseurl 'ftp://a' is no URL; correct it",
        ),
        (
            {"storage": {"s3": {"bucket": "a"}, "redirect": {"except_networks": ["x"]}}},
            "storage.redirect.except_networks[0] must be a network such as",
        ),
        ({"upstreams": [{"name": "a:0", "url": "https://a"}]}, "upstreams[0].name: not the name"),
        (
            {"auth": {"rules": [{"repositories": ["Org/x"], "actions": ["*"]}]}},
            "auth.rules[0].repositories[0]: 'Org/x' matches no repository's name",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], message: str) -> None:
    """File, key, what is wrong, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        parsed(**changes)
    text = str(caught.value)
    assert text.startswith("config.yaml: ")
    assert message in text
    assert "\n" not in text


def test_a_password_is_in_no_message() -> None:
    """Even a wrong one."""
    with pytest.raises(ConfigError) as caught:
        parsed(upstreams=[{"name": "a", "url": "https://a", "username": "u", "password": 12345}])
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1", "- a list", "just text"])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path: Path, content: str) -> None:
    """The file is named, and the place in it where YAML tells."""
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_which_option_names_it(tmp_path: Path) -> None:
    """``--config`` it is."""
    with pytest.raises(ConfigError, match="name the file with --config"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"grace": 59}, r"gc\.grace must be at least 60, not 59"),
        ({"uploads": -1}, r"gc\.uploads must be a number, 0 or more"),
        ({"cache_size": "20 GB"}, r"gc\.cache_size must be a number"),
    ],
)
def test_rules_of_the_collector_that_would_lose_content_are_refused(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    """A grace period that is shorter than a push is refused, and so is what makes no sense."""
    tree = {"endpoints": {"single": {"port": 5000}}, "storage": "data", "gc": section}
    with pytest.raises(ConfigError, match=message):
        parse(tree, "config.yaml", tmp_path)
