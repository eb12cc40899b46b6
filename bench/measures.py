# SPDX-License-Identifier: Apache-2.0
"""The table of measures: name, unit, function, who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import buildset, listings, proxying, requests, starting, transfers
from bench.figures import Figure
from bench.instances import Instance
from bench.run import Run

Function = Callable[[Instance, Run], Figure]


@dataclass(frozen=True)
class Measure:
    """One measure; ``files`` says whether a server of files takes part, ``once`` that others than
    this registry do in the first round only, because it takes long."""

    name: str
    title: str
    unit: str
    function: Function
    more_is_better: bool = True
    files: bool = False
    proxies: bool = False
    once: bool = False
    without: frozenset[str] = frozenset()

    def takes(self, instance: Instance, turn: int) -> bool:
        """Whether a peer takes part in a round."""
        peer = instance.peer
        if peer.only and self.name not in peer.only:
            return False
        if self.once and turn and peer.name not in _EACH_ROUND:
            return False
        able = (self.files or not peer.files) and (peer.proxy or not self.proxies)
        return able and peer.name not in self.without


#: This registry, and those that it is compared with round by round.
_EACH_ROUND = frozenset({"ours", "ours-ledger", "before"})
#: zuul-registry has no catalog.
_NO_CATALOG = frozenset({"zuul-registry"})

MEASURES = [
    Measure("start", "start-up to the first answer", "ms", starting.start, False, files=True),
    Measure("push-patch", "push of a large blob, PATCH and PUT", "MB/s", transfers.push_patch),
    Measure("push-whole", "push of a large blob in one PUT", "MB/s", transfers.push_whole),
    Measure("image", "push of an image of ten layers, three at once", "MB/s", transfers.image),
    Measure("pull-1", "pull of a large blob", "MB/s", transfers.pull_one, files=True),
    Measure("pull-4", "the same by 4 clients", "MB/s", transfers.pull_four, files=True),
    Measure("manifest-get", "manifest GET", "1/s", requests.manifest_get, files=True),
    Measure("blob-head", "blob HEAD", "1/s", requests.blob_head, files=True),
    Measure("manifest-put", "manifest PUT", "1/s", requests.manifest_put),
    Measure("small-blob", "push of a blob of 4 KiB", "1/s", requests.small_blob),
    Measure("tags", "page of tags", "1/s", listings.tags),
    Measure("catalog", "page of the catalog", "1/s", listings.catalog, without=_NO_CATALOG),
    Measure("buildset", "a buildset: 3 push, then 30 pull", "s", buildset.buildset, False),
    Measure("cold-1", "cold pull-through of an image", "s", proxying.one, False, proxies=True),
    Measure(
        "cold-50", "the same by 50 clients", "s", proxying.crowd, False, proxies=True, once=True
    ),
]
