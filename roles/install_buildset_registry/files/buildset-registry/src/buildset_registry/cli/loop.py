# SPDX-License-Identifier: Apache-2.0
"""The event loop of a command, imported by those that need one: that takes a while."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def without_log() -> None:
    """Have what requests tried logged nowhere: a command tells of each image itself."""
    import logging

    logging.getLogger("buildset_registry").addHandler(logging.NullHandler())


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end."""
    import asyncio

    return asyncio.run(work)
