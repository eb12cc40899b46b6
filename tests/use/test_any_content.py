# SPDX-License-Identifier: Apache-2.0
"""Files with content of any type: handled, or one line with the file, and nothing written."""

from __future__ import annotations

import os
import re
from functools import partial

import pytest
from buildset_clients.errors import ClientError, taking, unexpected

from tests.use.places import Place

#: Keys that clients go into, by file.
JSON = {
    "/etc/docker/daemon.json": ["registry-mirrors", "proxies"],
    "/root/.docker/config.json": ["auths", "credsStore", "credHelpers"],
    "/root/.config/containers/auth.json": ["auths"],
}
CRI = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
TOML = {
    "/etc/containers/registries.conf": [
        "registry = {}\n",
        "[[registry]]\nlocation = {}\n",
        '[[registry]]\nlocation = "docker.io"\nmirror = {}\n',
        '[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = {}\n',
    ],
    "/etc/containerd/config.toml": [
        "version = {}\n",
        "version = 2\nplugins = {}\n",
        CRI + "config_path = {}\n",
        CRI + "configs = {}\n",
        CRI + "mirrors = {}\n",
    ],
    "/etc/containerd/certs.d/quay.io/hosts.toml": ["host = {}\n", 'host."https://m" = {}\n'],
    "/etc/buildkit/buildkitd.toml": [
        "registry = {}\n",
        'registry."docker.io" = {}\n',
        'registry."docker.io".mirrors = {}\n',
    ],
}
YAML = {
    "/etc/rancher/k3s/registries.yaml": [
        "{}\n",
        "mirrors: {}\n",
        "configs: {}\n",
        "mirrors: {{docker.io: {}}}\n",
        "mirrors: {{docker.io: {{endpoint: {}}}}}\n",
        "other: {}\n",
    ]
}
VALUES = ["1", "1.5", "true", '"text"', "[]", "[1]", "[[]]"]
JSON_VALUES = [*VALUES, "null", "{}", '{"docker.io": null}', '{"a": [[{}]]}']
TOML_VALUES = [*VALUES, "1979-05-27", "inf", "{}", "{a = 1}", "{a = {b = []}}", "[{a = 1}]"]
YAML_VALUES = [
    *VALUES,
    "null",
    "",
    "2024-01-01",
    "!!binary aGVsbG8=",
    "{a: 1}",
    "{1: 2}",
    "&a [*a]",
]

FILES = [
    (path, f'{{"{key}": {value}}}') for path in JSON for key in JSON[path] for value in JSON_VALUES
]
FILES += [(path, one.format(v)) for path in TOML for one in TOML[path] for v in TOML_VALUES]
FILES += [(path, one.format(v)) for path in YAML for one in YAML[path] for v in YAML_VALUES]
BYTES = {
    "Latin-1": "# für\n".encode("latin-1"),
    "UTF-16": "a = 1\n".encode("utf-16"),
    "zeros": b"\0\0\0",
    "nested": b"[" * 20000,
    "objects": b'{"a":' * 20000,
    "control": b"\x01\x02 = \x03\n",
}
#: The words of a Python that nobody has to know.
UNREADABLE = re.compile(r"object has no|codec can|must be str|Error\b|not iterable|Traceback")


def tried(place: Place, name: str, content: bytes) -> None:
    """Configure every client beside such a file; it works, or is refused in one line."""
    path = place.write(name, "")
    path.write_bytes(content)
    before = place.tree()
    try:
        place.use()
    except ClientError as error:
        assert name in str(error)
        assert "\n" not in str(error)
        assert not UNREADABLE.search(str(error))
        assert place.tree() == before
    else:
        place.restore()
        assert place.tree() == before


@pytest.mark.parametrize(("name", "text"), FILES)
def test_value_of_any_type_is_handled_or_refused(place: Place, name: str, text: str) -> None:
    """A list for an object, a date, nothing, nested or within itself."""
    tried(place, name, text.encode())


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("name", [*JSON, *TOML, *YAML, "/etc/hosts"])
def test_bytes_of_any_kind_are_handled_or_refused(place: Place, name: str, content: bytes) -> None:
    """Another encoding, or no text at all."""
    tried(place, name, content)


def test_toml_with_a_byte_order_mark_is_edited(place: Place) -> None:
    """As containerd takes it; the mark stays."""
    path = place.write("/etc/containerd/config.toml", "\ufeffversion = 2\n")
    place.use("containerd")
    assert path.read_text().startswith("\ufeffversion = 2\n")
    assert "config_path" in path.read_text()


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device"])
@pytest.mark.parametrize("name", JSON)
def test_file_that_is_none_is_refused(place: Place, name: str, kind: str) -> None:
    """A folder, a pipe that nobody writes to, a link that leads to itself, or nowhere."""
    path = place.write(name, "")
    path.unlink()
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    make["loop"], make["device"] = (partial(path.symlink_to, to) for to in (path.name, "/dev/null"))
    make[kind]()
    before = sorted(place.root.rglob("*"))
    with pytest.raises(ClientError, match=rf"{name}: .*; .*(remove|rename)"):
        place.use()
    assert sorted(place.root.rglob("*")) == before


def test_error_of_the_role_itself_is_one_line_without_its_words() -> None:
    """They may hold what the role was given."""
    try:
        int("not-to-be-seen")
    except ValueError as error:
        said = unexpected(error)
    assert "not-to-be-seen" not in said
    assert "ValueError at test_any_content.py:" in said


def test_file_is_found_where_nobody_names_it() -> None:
    """It is the one that the work was at."""

    def work(path: str) -> int:
        return len(path) + len(None)  # type: ignore[arg-type]

    with pytest.raises(ClientError, match=r"^/etc/some: something in it"), taking("", "tool"):
        work("/etc/some")
