# SPDX-License-Identifier: Apache-2.0
"""The facts as other CI systems take them: outputs of GitHub Actions, dotenv, a shell's variables.

What a log could show has no password in it, but the name of the file that holds it. GitHub Actions
alone can be told what to mask before it is an output.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from buildset_registry.errors import ConfigError

FORMATS = ("github", "gitlab", "env")
_PREFIX = "BUILDSET_REGISTRY_"
#: The file to which a step of GitHub Actions writes its outputs.
_OUTPUTS = "GITHUB_OUTPUT"


def check(form: str) -> None:
    """Refuse a form that cannot be had here, before anything is started."""
    if form == "github" and not os.environ.get(_OUTPUTS):
        raise ConfigError(
            f"{_OUTPUTS} is not set: --format github is for a step of GitHub Actions; "
            "elsewhere use --format env or --json"
        )


def shown(form: str, root: Path, facts: Mapping[str, Any], certificate: Path | None) -> str:
    """Return what is printed; for GitHub Actions the outputs are written as well."""
    known = {name: value for name, value in facts.items() if value is not None}
    values = {**known, **({"cert_file": certificate} if certificate else {})}
    values["password_file"] = root / "password"
    if form == "github":
        _write_outputs(values)
        return f"::add-mask::{_escaped(values['password'])}"
    open_values = {
        name: value for name, value in values.items() if name not in ("password", "cert")
    }
    if form == "gitlab":
        return "\n".join(
            f"{_PREFIX}{name.upper()}={value}" for name, value in open_values.items()
        )  # fmt: skip
    return "\n".join(
        f"export {_PREFIX}{name.upper()}={quote(str(value))}" for name, value in open_values.items()
    )


def _write_outputs(values: Mapping[str, Any]) -> None:
    """Append the outputs (GitHub Actions, "Workflow commands", "Multiline strings")."""
    end = f"end-{secrets.token_hex(8)}"
    text = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
    path = Path(os.environ[_OUTPUTS])
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"cannot write the outputs to {path} ({_OUTPUTS}): {error.strerror}"
        ) from None


def _escaped(text: str) -> str:
    """Return the data of a workflow command, which is one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
