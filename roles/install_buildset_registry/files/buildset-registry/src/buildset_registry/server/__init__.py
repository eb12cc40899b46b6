# SPDX-License-Identifier: Apache-2.0
"""Serving: from a configuration to listeners on one event loop, until a signal."""
