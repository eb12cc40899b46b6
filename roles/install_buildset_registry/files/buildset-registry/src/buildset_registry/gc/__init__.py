# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: passes in an order, over a store that serves meanwhile; a report as a value.

What decides is in ``deciding``, pure; what acts is in ``passes``; ``collector`` runs them from time
to time. Nothing here prints.
"""

from buildset_registry.gc.collector import Collector, collect
from buildset_registry.gc.report import CollectionReport, Progress, Removed
from buildset_registry.gc.state import CollectionRules

__all__ = ["CollectionReport", "CollectionRules", "Collector", "Progress", "Removed", "collect"]
