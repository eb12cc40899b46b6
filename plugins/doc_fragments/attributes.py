# SPDX-License-Identifier: Apache-2.0
"""What every module of the collection can do."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes that the modules share."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description:
      - Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in check mode), when in
        diff mode.
    support: none
  action_group:
    description:
      - Use C(group/buildset.registry.registry) in C(module_defaults) to set defaults for this
        module.
    support: full
    membership:
      - buildset.registry.registry
"""
