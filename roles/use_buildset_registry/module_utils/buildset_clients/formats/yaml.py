# SPDX-License-Identifier: Apache-2.0
"""YAML files that are somebody else's, read as a program written in Go does that knows its fields.

Such a program takes a field of text as it is written: ``password: 0123`` is four characters, and a
date is no date. So nothing but truth and null is told apart from text here, and what is written
from it, as JSON, says the same.
"""

from __future__ import annotations

import importlib
import json
import re
from functools import lru_cache
from typing import Any

from ..errors import ClientError

#: The words that the core schema of YAML 1.2 has for them.
_PLAIN = {
    "tag:yaml.org,2002:bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "tag:yaml.org,2002:null": re.compile(r"^(?:~|null|Null|NULL|)$"),
}
_MERGE = "tag:yaml.org,2002:merge"
_REST = "mend the file, nothing was changed"


def load(content: bytes | None, path: str) -> dict[str, Any]:
    """Read a mapping; a file that is missing or empty is one without keys."""
    if content is None or not content.strip():
        return {}
    yaml = _module(path)
    try:
        found = yaml.load(content, Loader=_loader())
    except yaml.reader.ReaderError as error:
        raise ClientError(
            f"{path}: not UTF-8 or not text, at byte {error.position}; {_REST}"
        ) from error
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ClientError(f"{path}, line {line}: not YAML ({problem}); {_REST}") from error
    except (RecursionError, ValueError) as error:
        raise ClientError(f"{path}: not YAML that can be read ({error}); {_REST}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ClientError(f"{path}, line 1: not a YAML mapping; {_REST}")
    return found


def dump(value: dict[str, Any], path: str) -> bytes:
    """Write it as JSON, which is YAML as well."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        what = f"{path}: it has what cannot be written again ({error})"
        raise ClientError(f"{what}; {_REST}") from error


def _module(path: str) -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        hint = "install python3-yaml there, which Ansible's modules find"
        raise ClientError(
            f"{path}: the node's Python has no module that reads YAML; {hint}"
        ) from error


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Make the loader that takes all but these words as they are written."""
    yaml = importlib.import_module("yaml")
    made: Any = type("GoLoader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
    for tag, pattern in _PLAIN.items():
        made.add_implicit_resolver(tag, pattern, None)
    made.add_implicit_resolver(_MERGE, re.compile("^<<$"), ["<"])
    return made
