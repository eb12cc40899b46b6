# SPDX-License-Identifier: Apache-2.0
"""The server: from a configuration to listeners on one event loop, until a signal."""
