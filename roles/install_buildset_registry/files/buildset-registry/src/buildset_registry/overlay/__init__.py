# SPDX-License-Identifier: Apache-2.0
"""The overlay: images of other builds under their public names, fetched when somebody pulls them.

``document`` is what a registry is told of them, ``table`` has their tags for ``lookup``, and
``client`` asks the registry that holds them, and nobody else, for what belongs to them, by the
clients of ``holders``.
"""
