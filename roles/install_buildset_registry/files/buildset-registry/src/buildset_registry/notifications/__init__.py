# SPDX-License-Identifier: Apache-2.0
"""Telling others what was pushed, pulled and deleted: distribution's notifications."""
