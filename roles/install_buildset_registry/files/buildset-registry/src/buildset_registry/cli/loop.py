# SPDX-License-Identifier: Apache-2.0
"""The event loop of a command, imported by those that need one: that takes a while."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end."""
    import asyncio

    return asyncio.run(work)
