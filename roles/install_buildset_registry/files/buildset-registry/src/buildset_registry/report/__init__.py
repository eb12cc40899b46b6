# SPDX-License-Identifier: Apache-2.0
"""The report on a registry: who pushed what, who got which image from where, what was missing.

``summary`` makes it of the ledger's rows, ``contents`` adds layers and sizes from the store, and
``text`` and ``page`` show it to people. Whatever stands in it may have been chosen by a client.
"""
