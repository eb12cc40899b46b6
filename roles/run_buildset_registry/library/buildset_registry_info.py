# Copyright: Contributors to the buildset.registry project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a buildset registry from a node, or tell the state of the node's own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildset_registry_info
short_description: Check that a node reaches a buildset registry
version_added: 0.1.0
description:
  - With O(registry), checks from the node on which the task runs that both endpoints of a registry
    answer. The error says which layer is at fault, which is the name, the firewall, the registry,
    the certificate, the credentials or the allowed networks.
  - Otherwise tells the state of the registry that runs on the node itself.
author:
  - The buildset.registry maintainers (@buildset-registry)
options:
  timeout:
    description: How many seconds an endpoint may take to answer.
    type: int
    default: 10
extends_documentation_fragment:
  - buildset.registry.attributes
  - buildset.registry.command
  - buildset.registry.facts
notes:
  - The status of the node's own registry holds its password. Set C(no_log) to V(true) on the task
    to get it. Where that is missing, the module masks the password in its result, with a warning.
seealso:
  - module: buildset.registry.buildset_registry
"""

EXAMPLES = r"""
- name: Check that this node reaches the registry of the buildset
  buildset.registry.buildset_registry_info:
    registry: "{{ buildset_registry }}"

- name: Get the facts of the registry that runs on this node
  buildset.registry.buildset_registry_info:
    root: /srv/registry
  no_log: true
  register: result
"""

RETURN = r"""
endpoints:
  description: The endpoints that answered.
  type: list
  elements: str
  returned: with O(registry)
  sample: ["203.0.113.7:5000", "203.0.113.7:5001"]
status:
  description:
    - What C(buildset-registry status --json) tells of the node's own registry.
    - Its key C(facts) is what the module M(buildset.registry.buildset_registry) returns, or
      V(null).
    - Its key C(attention) lists what needs a look, such as a certificate that ends, each with
      C(subject) and C(message).
  type: dict
  returned: without O(registry)
  sample: {"running": true, "pid": 4711, "root": "/var/lib/buildset-registry", "version": "0.1.0"}
"""

import base64
import errno
import http.client
import socket
import ssl

from ansible.module_utils.basic import AnsibleModule

try:  # in a role's own folders
    from ansible.module_utils.buildset_command import command
except ImportError:  # in a collection
    from ansible_collections.buildset.registry.plugins.module_utils.buildset_command import command

#: What a firewall between the node and the registry looks like from the node.
SHUT_OUT = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)


class UnusableError(Exception):
    """An endpoint that does not answer as it should; the message says why and what to do."""


class Endpoint:
    """One listener of a registry, seen from this node."""

    def __init__(self, kind: str, host: str, port: int, cert: str, timeout: int) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.cert = cert
        self.timeout = timeout

    @property
    def address(self) -> str:
        """Write host and port as one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def error(self, what: str, hint: str) -> UnusableError:
        """Say in one line which endpoint fails, how, and what to do."""
        return UnusableError(f"the {self.kind} endpoint {self.address} {what}; {hint}")

    def get(self, credentials: str | None = None) -> int:
        """Ask for ``/v2/`` and tell the HTTP status."""
        context = self.trust()
        sock = self.connect()
        try:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout)
            connection.sock = self.handshake(context, sock)
            headers = {"Authorization": f"Basic {credentials}"} if credentials else {}
            connection.request("GET", "/v2/", headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            hint = "is it a registry that listens there? See its log"
            said = " ".join(str(error).split())[:80]  # it may be what the other end has sent
            raise self.error(f"does not speak HTTP ({said})", hint) from error
        finally:
            sock.close()

    def trust(self) -> ssl.SSLContext:
        """Trust the registry's certificate and no other one."""
        try:
            context = ssl.create_default_context(cadata=self.cert or "nothing")
        except (ssl.SSLError, ValueError, TypeError) as error:
            hint = "give it as the registry's facts have it, line ends included"
            raise self.error("cannot be verified: cert is none in PEM", hint) from error
        # Python 3.13 began to refuse certificates that the container tools accept.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def connect(self) -> socket.socket:
        """Open a TCP connection."""
        try:
            return socket.create_connection((self.host, self.port), self.timeout)
        except (socket.gaierror, UnicodeError) as error:
            hint = "use an address, or add the name to /etc/hosts"
            raise self.error("has a name that does not resolve on this node", hint) from error
        except socket.timeout as error:
            raise self.error(f"does not answer within {self.timeout} s", self.opening) from error
        except ConnectionRefusedError as error:
            hint = "start it with the role run_buildset_registry, or see its log"
            what = "refuses connections: nothing listens there, the registry is stopped"
            raise self.error(what, hint) from error
        except OSError as error:
            hint = self.opening if error.errno in SHUT_OUT else "see the registry's log"
            raise self.error(f"cannot be reached ({error.strerror or error})", hint) from error

    @property
    def opening(self) -> str:
        """Say what to open where a firewall is in the way."""
        where = f"TCP port {self.port} of {self.host}"
        return f"let this node through to {where} (firewall, security group)"

    def handshake(self, context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
        """Verify the certificate for the name that was asked for."""
        try:
            return context.wrap_socket(sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message.rstrip(".")
            if "mismatch" in reason or "not valid for" in reason:
                hint = "start the registry with this name as its host or alias"
                raise self.error(f"has a certificate for other names ({reason})", hint) from error
            hint = "it is another registry's or was renewed: use its present facts"
            raise self.error(
                f"has a certificate that cert does not verify ({reason})", hint
            ) from error
        except (ssl.SSLError, ConnectionError, socket.timeout) as error:
            reason = getattr(error, "reason", None) or error
            hint = "is it a registry that listens there?"
            raise self.error(f"does not speak TLS ({reason})", hint) from error

    def accept(self, status: int) -> None:
        """Accept success only."""
        if status == 401:
            hint = "use username and password of the registry's present facts"
            raise self.error("refuses the credentials (401)", hint)
        if status == 403:
            hint = "add this node's address to buildset_registry_allowed_networks"
            raise self.error("does not serve this node's network (403)", hint)
        if status != 200:
            raise self.error(f"answered GET /v2/ with status {status}", "see the registry's log")


def check(registry: dict, timeout: int) -> list:
    """Check both endpoints and tell their addresses."""
    login = f"{registry['username']}:{registry['password']}"
    credentials = base64.b64encode(login.encode()).decode()
    host, port, cert = registry["host"], registry["port"], registry["cert"]
    push_host, push_port = registry["push_host"] or host, registry["push_port"] or port
    for name, value in (("port", port), ("push_port", push_port)):
        if not 0 < value < 65536:
            hint = "use the facts of the role run_buildset_registry as they are"
            raise UnusableError(f"{name} of the registry is {value}, which is no port; {hint}")
    if timeout <= 0:
        raise UnusableError(f"timeout is {timeout}; give it the seconds that an endpoint may take")
    pull = Endpoint("pull", host, port, cert, timeout)
    push = Endpoint("push", push_host, push_port, cert, timeout)
    status = pull.get()
    # A registry may be closed to anonymous pulls.
    pull.accept(pull.get(credentials) if status == 401 else status)
    push.accept(push.get(credentials))
    return [pull.address, push.address]


def tell_status(module: AnsibleModule) -> dict:
    """Ask the command for the state of the node's own registry."""
    status = command.status(module)
    command.mask_password(module, status["facts"])
    return status


def main() -> None:
    """Read the options and check what they name."""
    registry = {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "push_host": {"type": "str"},
        "push_port": {"type": "int"},
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "cert": {"type": "str", "required": True},
        "proxy_port": {"type": "int"},
    }
    module = AnsibleModule(
        argument_spec={
            **command.ARGUMENTS,
            "registry": {"type": "dict", "options": registry},
            "timeout": {"type": "int", "default": 10},
        },
        mutually_exclusive=[("registry", "root"), ("registry", "command")],
        supports_check_mode=True,
    )
    given = module.params["registry"]
    with command.one_line(module):
        try:
            if not given:
                module.exit_json(changed=False, status=tell_status(module))
            endpoints = check(given, module.params["timeout"])
        except command.CommandError as error:
            module.fail_json(msg=str(error), **error.result)
        except UnusableError as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=False, endpoints=endpoints)


if __name__ == "__main__":
    main()
