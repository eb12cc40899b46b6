# SPDX-License-Identifier: Apache-2.0
"""The kinds of store that the tests of the contract run over."""

from collections.abc import Callable, Mapping
from pathlib import Path

from buildset_registry.config import Config, Endpoints

#: How each is configured, with a folder for whatever it needs.
CONFIGURED: Mapping[str, Callable[[Path], Config]] = {
    "filesystem": lambda folder: Config(endpoints=Endpoints(), storage=folder / "store"),
    "memory": lambda folder: Config(endpoints=Endpoints(), storage="memory"),
}
