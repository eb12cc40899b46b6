# SPDX-License-Identifier: Apache-2.0
"""A file that is no YAML is named with the place, and without a word of it: it has passwords."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buildset_registry.cli.up import _read_upstreams
from buildset_registry.config import load
from buildset_registry.config.imports import import_config
from buildset_registry.errors import ConfigError
from buildset_registry.image_lock.exports import _service_images
from buildset_registry.instance.plan import _load
from buildset_registry.instance.sections import Sections
from buildset_registry.yaml_text import read_yaml

BROKEN = (
    "password: s3cret: x",
    "password: 's3cret'x",
    "password: *s3cret",
    "password: !s3cret x",
    "password: !!int s3cret",
    "password: !!bool s3cret",
    "password: !!timestamp s3cret",
    'password: "a\\xs3cret"',
    "password: [s3cret",
    "password: |s3cret",
)
READERS: dict[str, Callable[[Path], Any]] = {
    "serve": load,
    "up": lambda file: _load(file.read_text(), file),
    "up --upstreams-file": lambda file: _read_upstreams(str(file)),
    "up --settings-file": lambda file: Sections.read(file.read_text(), str(file)),
    "import-config": lambda file: import_config(file.read_text(), str(file), {}),
    "lock --compose-file": lambda file: _service_images(str(file), file.read_text()),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_no_word_of_a_broken_file_is_shown(
    tmp_path: Path, text: str, read: Callable[[Path], Any]
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=" is not YAML: ") as refused:
        read(file)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_place_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("auth:\n  password: s3cret: x\n")
    with pytest.raises(ConfigError, match="line 2, column 19: mapping values are not allowed here"):
        load(file)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("key", ["auth", "'auth'", '"auth"'])
def test_a_key_that_is_there_twice_is_refused(
    tmp_path: Path, key: str, read: Callable[[Path], Any]
) -> None:
    """The last one would be taken, and all that the first one says be lost without a word."""
    file = tmp_path / "file.yaml"
    file.write_text(f"auth: {{anonymous_pull: false}}\ngc: {{}}\n{key}: {{rules: []}}\n")
    with pytest.raises(ConfigError, match="line 3, column 1: the key is there twice"):
        read(file)


def test_what_is_merged_may_be_said_anew() -> None:
    """At whatever depth, and whichever of them is made first."""
    text = "a: {b: {c: &c {<<: &d {one: 1, two: 2}, one: 3}}}\ne: {<<: *c, <<: *d, two: 4}\n"
    merged = {"one": 3, "two": 2}
    assert read_yaml(text, "file") == {"a": {"b": {"c": merged}}, "e": {"one": 1, "two": 4}}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            '{\n\t"auth": {\n\t\t"anonymous_pull": false\n\t}\n}\n',
            {"auth": {"anonymous_pull": False}},
        ),
        ('[{"password": "\\ud83d\\ude00"}]', [{"password": "\N{GRINNING FACE}"}]),
        ("{password: NaN}", {"password": "NaN"}),
        ('{"password": NaN}', {"password": "NaN"}),
        (" [one, two]", ["one", "two"]),
    ],
)
def test_all_json_is_taken(text: str, read: object) -> None:
    """With tabs, and with characters that it writes as two escapes; and YAML that looks like it."""
    assert read_yaml(text, "file") == read


def test_a_password_of_any_characters_is_taken() -> None:
    """The modules hand settings over as JSON."""
    password = "pass \N{GRINNING FACE}"
    text = json.dumps({"users": [{"name": "zuul", "password": password}]})
    assert Sections.read(text, "-").users == {"zuul": password}


def test_a_key_that_is_twice_in_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="line 2, column 12: the key is there twice"):
        read_yaml('{"gc": {},\n "auth": 1,"gc": {}}', "file")


def test_a_variable_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="REGISTRY_LOG_LEVEL is not YAML"):
        import_config("version: 0.1", "file", {"REGISTRY_LOG_LEVEL": "!!int s3cret"})


def test_upstreams_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_bytes(b"- name: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8: byte 8"):
        _read_upstreams(str(file))
