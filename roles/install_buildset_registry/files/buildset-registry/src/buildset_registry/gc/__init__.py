# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: passes in an order, over a store that serves meanwhile; a report as a value.

What decides is in ``deciding``, pure; what acts is in ``passes``; ``collector`` runs them from time
to time. Nothing here prints.
"""

from buildset_registry.gc.collector import Collector, collect
from buildset_registry.gc.report import Progress, Removed, Report
from buildset_registry.gc.run import Rules

__all__ = ["Collector", "Progress", "Removed", "Report", "Rules", "collect"]
