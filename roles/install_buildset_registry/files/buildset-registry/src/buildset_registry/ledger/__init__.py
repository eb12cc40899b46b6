# SPDX-License-Identifier: Apache-2.0
"""The ledger: which image each client got, by which name, and from where; lines of JSON in files.

A request only adds to what was seen since the last round (``Sightings``). A task of its own makes
rows of that twice a second (``joining``) and appends them to files (``files``). ``rows`` has what
stands in a row. A row may stand there several times, as more became known of it: the last one
counts.
"""
