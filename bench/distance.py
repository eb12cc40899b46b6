# SPDX-License-Identifier: Apache-2.0
"""A long wire: a TUN device that gives each packet back after half a round trip.

The two addresses of a packet are swapped on the way, so that whoever connects to ``FAR`` meets what
listens at ``NEAR``, in the same network namespace and by the kernel's own TCP, slow start and all.
Checksums stay right: swapping changes no sum. The kernel's netem would do as well, where it is.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

#: Addresses that RFC 5737 keeps for examples.
NEAR, FAR = "192.0.2.1", "192.0.2.2"
_DEVICE = "far0"
#: linux/if_tun.h: packets as they are, behind a header (linux/virtio_net.h) by which the kernel
#: hands over many segments as one.
_SET_INTERFACE, _SET_OFFLOAD = 0x400454CA, 0x400454D0
_TUN, _NO_INFORMATION, _HEADER = 0x0001, 0x1000, 0x4000
_CHECKSUMS, _SEGMENTS = 0x01, 0x02
_HEADER_SIZE = 10
_LONGEST = 1 << 17
#: Where the addresses stand in a packet of IPv4.
_SOURCE, _TARGET = slice(22, 26), slice(26, 30)


@contextmanager
def far(round_trip: float) -> Iterator[None]:
    """Have ``FAR`` be so many seconds away from here; wants a network namespace of its own."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _TUN | _NO_INFORMATION | _HEADER
    fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", _DEVICE.encode(), flags))
    fcntl.ioctl(device, _SET_OFFLOAD, _CHECKSUMS | _SEGMENTS)
    for words in (
        ["link", "set", "lo", "up"],
        ["address", "add", f"{NEAR}/24", "dev", _DEVICE],
        ["link", "set", _DEVICE, "mtu", "1500", "txqueuelen", "10000", "up"],
    ):
        subprocess.run(["ip", *words], check=True)
    ended, told = os.pipe()
    carrier = threading.Thread(target=_carry, args=(device, ended, round_trip / 2))
    carrier.start()
    try:
        yield
    finally:
        os.close(told)
        carrier.join()
        for one in (device, ended):
            os.close(one)


def _carry(device: int, ended: int, seconds: float) -> None:
    """Give packets back, each when its time has come."""
    under_way: deque[tuple[float, bytearray]] = deque()
    while True:
        left = max(under_way[0][0] - time.monotonic(), 0) if under_way else None
        ready = select.select([device, ended], [], [], left)[0]
        if ended in ready:
            return
        if ready:
            _take(device, under_way, seconds)
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            os.write(device, under_way.popleft()[1])


def _take(device: int, under_way: deque[tuple[float, bytearray]], seconds: float) -> None:
    """Take what waits at the device."""
    while True:
        try:
            packet = bytearray(os.read(device, _LONGEST))
        except BlockingIOError:
            return
        packet[_SOURCE], packet[_TARGET] = packet[_TARGET], packet[_SOURCE]
        if packet[_HEADER_SIZE] >> 4 == 4:
            under_way.append((time.monotonic() + seconds, packet))
