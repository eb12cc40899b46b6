# SPDX-License-Identifier: Apache-2.0
"""Free memory in the same state for each peer.

A virtual machine may tell its host which memory is free, and the host takes it back (free page
reporting, a feature of virtio-balloon: virtio 1.2, section 5.5). The next who uses such a page has
to wait for another: 6 to 10 microseconds instead of 2, counted as the guest's own work. A push of
1 GiB fills a quarter of a million pages. Where they were free for some seconds, it takes up to
twice the processor time, whichever registry it is.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from bench.processes import kib


def take_up(size: int) -> None:
    """Use ``size`` bytes of memory, at most half of what is free, and give them back."""
    size = min(size, kib(Path("/proc/meminfo"), "MemAvailable:") * 1024 // 2)
    with mmap.mmap(-1, size) as memory:
        memory[:: mmap.PAGESIZE] = bytes(-(-size // mmap.PAGESIZE))
