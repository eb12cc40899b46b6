# SPDX-License-Identifier: Apache-2.0
"""A registry on this machine: its folder, its secrets, and the process that runs it.

``up`` makes what is missing and starts it, ``down`` ends it, ``status`` asks. Nothing is imported
here: the watchdog of a registry is a process of its own that stays small.
"""
