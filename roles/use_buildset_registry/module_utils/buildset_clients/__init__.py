# SPDX-License-Identifier: Apache-2.0
"""Make the container tools of a node use a buildset registry, prove it, and undo it.

Nothing here knows Ansible. The syntax is that of Python 3.8, which nodes may have.
"""
