# SPDX-License-Identifier: Apache-2.0
"""The options of the modules that run the command."""

from __future__ import annotations


class ModuleDocFragment:
    """The registry that the command is for, and where the command is."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - The folder of the node's own registry.
      - By default V(/var/lib/buildset-registry) for root and
        V(~/.local/share/buildset-registry) for other users.
    type: path
  command:
    description:
      - The path of the C(buildset-registry) command.
      - By default it is looked for on E(PATH) and where the role installs it.
    type: path
"""
