# SPDX-License-Identifier: Apache-2.0
"""Notifications of what was pushed, pulled and deleted, as distribution sends them."""
