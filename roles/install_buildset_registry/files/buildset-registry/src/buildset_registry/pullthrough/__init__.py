# SPDX-License-Identifier: Apache-2.0
"""Pull-through: what the buildset does not have comes from upstream, once, and stays."""

from buildset_registry.pullthrough.pullthrough import PullThrough

__all__ = ["PullThrough"]
