# SPDX-License-Identifier: Apache-2.0
"""Run the command line by ``python -m buildset_registry``."""

from buildset_registry.cli import program

program()
