# SPDX-License-Identifier: Apache-2.0
"""The uses that a store is opened for."""

from __future__ import annotations

from enum import Enum


class Purpose(Enum):
    """The use that a store is opened for."""

    SERVE = "serve"
    """To serve and change; where there is nothing yet, it begins empty."""

    COLLECT = "collect"
    """To collect what a server left that is not there now."""

    READ = "read"
    """To look only, beside a server that changes it."""
