# SPDX-License-Identifier: Apache-2.0
"""A container registry for CI: holds what a buildset pushed, pulls everything else through."""

__version__ = "0.1.0"
