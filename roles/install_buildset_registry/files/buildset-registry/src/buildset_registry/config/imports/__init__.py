# SPDX-License-Identifier: Apache-2.0
"""Configurations of other registries, told in the keys of this one.

What has an equal here is taken over with its meaning, not with its name: where the other registry
refuses deletes or lets nobody in, so does the result. What has none is named, each key in a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildset_registry.config.imports.distribution import from_distribution
from buildset_registry.config.imports.zuul_registry import from_zuul_registry
from buildset_registry.config.reader import parse
from buildset_registry.errors import ConfigError
from buildset_registry.yaml_text import read_yaml

__all__ = ["Imported", "import_config"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A configuration of this registry, and what the other one's lost on the way."""

    config: dict[str, Any]
    """The tree, as the file is to have it."""

    notes: tuple[str, ...] = ()
    """What has no equal here, or is to be done by hand; a line each."""

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Passwords by user, of which an htpasswd file is to be made; none where one is there."""


def import_config(text: str, source: str, environment: Mapping[str, str]) -> Imported:
    """Read a configuration of distribution (2.8 or 3) or of zuul-registry.

    ``environment`` is what the other registry would be started with: distribution takes variables
    ``REGISTRY_...`` over its file, zuul-registry puts ``ZUUL_...`` into it. Raises ``ConfigError``
    where the file is of neither, or says what it does not allow.
    """
    for name, value in environment.items():
        if name.startswith("ZUUL_"):
            text = text.replace(f"%({name})", value)
    tree = read_yaml(text, source)
    if tree is None:
        tree = {"version": "0.1"}
    if not isinstance(tree, dict) or not {"version", "registry"} & tree.keys():
        raise ConfigError(
            f"{source} is neither distribution's configuration (version: 0.1) nor zuul-registry's "
            "(registry: ...); name the file that the other registry is started with"
        )
    try:
        if "registry" in tree:
            imported = Imported(*from_zuul_registry(tree, source))
        else:
            imported = Imported(*from_distribution(tree, source, environment))
    except RecursionError:
        raise ConfigError(f"{source} refers to itself by an alias; write it out") from None
    parse(imported.config, f"what {source} becomes", Path())
    return imported
