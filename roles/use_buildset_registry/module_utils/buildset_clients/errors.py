# SPDX-License-Identifier: Apache-2.0
"""The error that ends the work: one line that says what is wrong and what to do."""

from __future__ import annotations


class ClientError(Exception):
    """A node's file, program or registry that cannot be used as it is."""
