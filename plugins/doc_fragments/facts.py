# SPDX-License-Identifier: Apache-2.0
"""The facts of a registry, as modules take them."""

from __future__ import annotations


class ModuleDocFragment:
    """The keys that every user of a registry needs."""

    DOCUMENTATION = r"""
options:
  registry:
    description: The facts of a registry, as returned by M(buildset.registry.buildset_registry).
    type: dict
    suboptions:
      host:
        description: The name or address of the pull endpoint.
        type: str
        required: true
      port:
        description: The TCP port of the pull endpoint.
        type: int
        required: true
      push_host:
        description: The name or address of the push endpoint. The pull endpoint's by default.
        type: str
      push_port:
        description: The TCP port of the push endpoint. The pull endpoint's by default.
        type: int
      username:
        description: The user name for HTTP basic authentication.
        type: str
        required: true
      password:
        description: The password for HTTP basic authentication.
        type: str
        required: true
      cert:
        description: The certificate in PEM format that verifies both endpoints.
        type: str
        required: true
      proxy_port:
        description: The TCP port of the HTTPS proxy for docker, where the registry is one.
        type: int
"""
