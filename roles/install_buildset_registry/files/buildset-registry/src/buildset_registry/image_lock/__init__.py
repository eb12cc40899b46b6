# SPDX-License-Identifier: Apache-2.0
"""Locks of images: which digest each tag of an upstream had in one buildset.

``document`` is the file, ``record`` makes it from a store, ``table`` has its tags served by digest,
``exports`` are other tools' forms of it, ``currency`` compares it with what upstreams have now.
"""
