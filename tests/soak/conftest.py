# SPDX-License-Identifier: Apache-2.0
"""What the long tests share with the short ones."""

from tests.reliability.conftest import authority, serve

__all__ = ["authority", "serve"]
