# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: passes in an order, over a store that serves meanwhile; a report as a value.

``reachability`` and ``images`` decide, pure; ``passes``, ``eviction``, ``leases``, ``retention``,
``quota`` and ``unlinking`` act on one collection, the ``state``;
``collector`` runs them from time to time, or when asked. Nothing here prints.
"""

from buildset_registry.gc.collector import Collector, collect
from buildset_registry.gc.report import (
    CollectionHistory,
    CollectionReport,
    JudgedImage,
    Removed,
)
from buildset_registry.gc.state import AtUpstream, CollectionRules

__all__ = [
    "AtUpstream",
    "CollectionHistory",
    "CollectionReport",
    "CollectionRules",
    "Collector",
    "JudgedImage",
    "Removed",
    "collect",
]
