# SPDX-License-Identifier: Apache-2.0
"""Logins are found where docker and podman keep them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.transfer.credentials import CredentialStore
from buildset_registry.transfer.errors import TransferError
from buildset_registry.transfer.session import RegistryLogin

USER = RegistryLogin("user", "pass:word")


def auth(login: RegistryLogin = USER) -> dict[str, str]:
    """Return an entry as docker login writes it."""
    pair = f"{login.username}:{login.password}".encode()
    return {"auth": base64.b64encode(pair).decode()}


def write(path: Path, tree: Any) -> Path:
    """Write a file of credentials."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("quay.io", "quay.io"),
        ("quay.io/org", "quay.io"),
        ("quay.io/org/app", "quay.io"),
        ("https://quay.io", "quay.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry.example:5000", "registry.example:5000"),
    ],
)
def test_a_login_is_found_by_each_of_its_names(tmp_path: Path, key: str, host: str) -> None:
    """Docker's and podman's, those of Docker Hub included."""
    file = write(tmp_path / "auth.json", {"auths": {key: auth()}})
    assert CredentialStore(str(file)).find(host, "org/app") == USER
    assert CredentialStore(str(file)).find("other.example", "org/app") is None


def test_the_login_of_the_longest_name_wins(tmp_path: Path) -> None:
    """That of the repository before that of the registry."""
    other = RegistryLogin("other", "x")
    tree = {"auths": {"quay.io": auth(other), "quay.io/org/app": auth()}}
    store = CredentialStore(str(write(tmp_path / "auth.json", tree)))
    assert store.find("quay.io", "org/app") == USER
    assert store.find("quay.io", "org/application") == other


@pytest.mark.parametrize(
    "place",
    [
        "run/containers/auth.json",
        "home/.config/containers/auth.json",
        "home/.docker/config.json",
    ],
)
def test_a_login_is_found_in_the_files_of_podman_and_docker(tmp_path: Path, place: str) -> None:
    """In their usual places."""
    write(tmp_path / place, {"auths": {"quay.io": auth()}})
    environment = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert CredentialStore(environment=environment).find("quay.io", "app") == USER


def helper(folder: Path, script: str) -> Path:
    """Make a credential helper on a PATH of its own."""
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("tree", [{"credsStore": "test"}, {"credHelpers": {"quay.io": "test"}}])
def test_a_helper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: dict[str, Any]
) -> None:
    """By the name of the registry, which it reads."""
    answer = '{"Username": "user", "Secret": "pass:word"}'
    helper(tmp_path, f"read key; [ \"$key\" = quay.io ] && echo '{answer}' || exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    store = CredentialStore(str(write(tmp_path / "auth.json", tree)))
    assert store.find("quay.io", "app") == USER
    assert store.find("other.example", "app") is None


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"auths": {"quay.io": {"auth": "%%%"}}}, "is not base64"),
        ({"credHelpers": {"quay.io": "missing"}}, "docker-credential-missing, which is not on"),
        ({"credHelpers": {"quay.io": "test"}}, "answers without Username"),
        ({"credHelpers": {"quay.io": "octets"}}, "docker-credential-octets fails"),
        ({"credHelpers": {"quay.io": "a\0b"}}, "docker-credential-a b fails"),
        ({"auths": {"quay.io": {"registrytoken": "se cret"}}}, "quay.io is no token; log in again"),
        ({"auths": {"quay.io": {"registrytoken": "secret\r\nX: y"}}}, "is no token; log in again"),
    ],
)
def test_a_login_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: dict[str, Any], told: str
) -> None:
    """In one line, without what is secret."""
    helper(tmp_path, "echo secret")
    (tmp_path / "docker-credential-octets").write_text("#!/bin/sh\nprintf '\\377'\n")
    (tmp_path / "docker-credential-octets").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    store = CredentialStore(str(write(tmp_path / "auth.json", tree)))
    with pytest.raises(TransferError, match=told) as caught:
        store.find("quay.io", "app")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    """Those that are looked for need not."""
    with pytest.raises(TransferError, match="cannot be read"):
        CredentialStore(str(tmp_path / "none.json")).find("quay.io", "app")
    assert CredentialStore(environment={"HOME": str(tmp_path)}).find("quay.io", "app") is None


def test_a_file_that_is_not_json_is_told(tmp_path: Path) -> None:
    """Its name, and what to do."""
    file = tmp_path / "auth.json"
    for content in ("{", "[" * 100_000):
        file.write_text(content)
        with pytest.raises(TransferError, match="is not JSON; log in again"):
            CredentialStore(str(file)).find("quay.io", "app")
    file.write_text("[]")
    with pytest.raises(TransferError, match="is no object of JSON; log in again"):
        CredentialStore(str(file)).find("quay.io", "app")


def test_an_identity_token_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker keeps it instead of the password where the registry gives it one."""
    entry = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()}
    tree = {"auths": {"quay.io": {**entry, "identitytoken": "kept"}}}
    login = RegistryLogin(identity_token="kept")
    assert CredentialStore(str(write(tmp_path / "a.json", tree))).find("quay.io", "app") == login
    helper(tmp_path, 'echo \'{"Username": "<token>", "Secret": "kept"}\'')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file = write(tmp_path / "b.json", {"credsStore": "test"})
    assert CredentialStore(str(file)).find("quay.io", "app") == login


def test_a_token_is_sent_as_it_is(tmp_path: Path) -> None:
    """Docker's registrytoken."""
    file = write(tmp_path / "auth.json", {"auths": {"quay.io": {"registrytoken": "abc\n"}}})
    found = CredentialStore(str(file)).find("quay.io", "app")
    assert found is not None
    assert found.header == "Bearer abc"
    assert "abc" not in repr(found)
