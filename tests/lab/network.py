# SPDX-License-Identifier: Apache-2.0
"""The lab's network: a bridge in the keeper's namespace and a pair of interfaces for each host.

It has no way out of the lab. The addresses are those that RFC 5737 and RFC 3849 keep for examples.
"""

from __future__ import annotations

from tests.lab.command import run

IPV4 = "198.51.100"
IPV6 = "2001:db8:51::"
SWITCH = 1
FIRST_HOST = 11
LAST_HOST = 250
BRIDGE = "lab0"


def address(number: int) -> str:
    """Tell the address of a host."""
    return f"{IPV4}.{number}"


def addresses(number: int) -> list[str]:
    """Tell all addresses of a host."""
    return [address(number), f"{IPV6}{number}"]


def inside(process: int, *argv: str) -> str:
    """Run a program in the network of a process."""
    return run("nsenter", f"--net=/proc/{process}/ns/net", "--", *argv)


def make_switch(keeper: int) -> None:
    """Make the bridge, which is also every host's way to nowhere."""
    inside(keeper, "ip", "link", "add", BRIDGE, "type", "bridge")
    _configure(keeper, BRIDGE, SWITCH)
    # As a router that knows no way, it answers at once: no host waits for what is not in the lab.
    inside(keeper, "sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
    inside(keeper, "sysctl", "--quiet", "--write", "net.ipv6.conf.all.forwarding=1")


def plug_in(keeper: int, host: int, number: int) -> None:
    """Join a host, named by its first process, to the bridge."""
    port = f"port{number}"
    pair = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host)]
    inside(keeper, *pair)
    inside(keeper, "ip", "link", "set", port, "master", BRIDGE, "up")
    _configure(host, "eth0", number)
    for family, gateway in (("-4", f"{IPV4}.{SWITCH}"), ("-6", f"{IPV6}{SWITCH}")):
        inside(host, "ip", family, "route", "add", "default", "via", gateway)


def _configure(process: int, interface: str, number: int) -> None:
    inside(process, "ip", "link", "set", "lo", "up")
    inside(process, "ip", "link", "set", interface, "up")
    inside(process, "ip", "address", "add", f"{IPV4}.{number}/24", "dev", interface)
    # Without duplicate address detection, which takes a second, the address can be used at once.
    inside(process, "ip", "address", "add", f"{IPV6}{number}/64", "dev", interface, "nodad")
