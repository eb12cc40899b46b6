# SPDX-License-Identifier: Apache-2.0
"""Where bytes and names live: the contract in ``base``, and one module for each kind of store."""
