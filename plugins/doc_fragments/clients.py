# SPDX-License-Identifier: Apache-2.0
"""The option that names clients, with the choices of the table of clients."""

from __future__ import annotations

from ansible_collections.buildset.registry.plugins.module_utils.buildset_clients.main import NAMES


class ModuleDocFragment:
    """A part of the documentation of modules."""

    #: Annotated, since ansible-test takes what is not for a text that is written out.
    DOCUMENTATION: str = f"""
options:
  clients:
    description: The clients to configure. Those that the node has, if empty.
    type: list
    elements: str
    choices: [{", ".join(NAMES)}]
    default: []
"""
