# SPDX-License-Identifier: Apache-2.0
"""Connect to an address and hand the connection to ssh, which has asked for it (ProxyUseFdpass).

usage: connect.py ADDRESS PORT, in the network of the lab. Only ssh's standard output is a socket.
"""

import socket
import sys

address, port = sys.argv[1:]
with socket.create_connection((address, int(port)), timeout=10) as connection:
    connection.setblocking(True)
    with socket.socket(fileno=sys.stdout.fileno()) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])
        ssh.detach()
