# SPDX-License-Identifier: Apache-2.0
"""YAML that users write: one line tells what is wrong, and a key is there once (YAML 1.2, 3.2.1).

PyYAML takes the last of several: what the first of two sections says would be lost. And it does not
read all JSON: no tabs between values, and a character past U+FFFF that is written as two escapes
(RFC 8259, section 7) is two halves to it.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from buildset_registry.errors import YAML_FAULTS, ConfigError, yaml_problem

#: The tag of ``<<``, which may be there several times.
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(text: str, source: str) -> Any:
    """Return what a text says; ``ConfigError`` says where ``source`` is no YAML, and why."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass  # YAML in braces, or what YAML tells the place of
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, *YAML_FAULTS) as error:
        raise ConfigError(f"{source} is not YAML: {yaml_problem(error)}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


class _Loader(yaml.SafeLoader):
    """Plain values; what stands twice is looked for before anything is merged."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    None, None, "the key is there twice; keep one of them", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node
