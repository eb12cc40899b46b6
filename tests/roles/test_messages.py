# SPDX-License-Identifier: Apache-2.0
"""What the modules of the registry refuse, each in one line that says what to do."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
import trustme

from tests.ports import free_port
from tests.roles.conftest import MakeDesk
from tests.roles.harness import ROLES, Desk
from tests.use.places import CERTIFICATE

HOST = "127.0.0.1"
UNREACHABLE = "255.255.255.255"
SECRET = "not-to-be-seen"
LIBRARY = ROLES / "run_buildset_registry"
#: Commands in place of the registry's, by what they do.
COMMANDS = {
    "silent": "exit 4",
    "telling": "echo one >&2; echo two, and what to do >&2; exit 4",
    "talking": "echo hello",
    "listing": "echo []",
    "partial": f"""echo '{{"running": true, "facts": {{"user": "{SECRET}"}}}}'""",
}
#: What each of them is told of, by the module that asks for the registry's state.
TOLD_OF_COMMANDS = {
    "missing": "the buildset-registry command is not installed (/none/there); run the role",
    "silent": "it ended with exit code 4, without a word",
    "telling": "two, and what to do",
    "talking": "talking status did not answer in JSON as it should; is it the right command?",
    "listing": "listing status did not answer in JSON as it should",
    "partial": "does not know (KeyError at command.py:",
}
#: The answers of endpoints, and what is told of them.
ANSWERS = {
    "HTTP/1.1 401 No": "refuses the credentials (401); use username and password of",
    "HTTP/1.1 403 No": "network (403); add this node's address to buildset_registry_allowed",
    "HTTP/1.1 500 No": "answered GET /v2/ with status 500; see the registry's log",
    "rubbish": "does not speak HTTP (",
}


class Endpoints:
    """Endpoints that answer as they should not."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.authority = trustme.CA()
        self.cert = self.authority.cert_pem.bytes().decode()

    def answering(self, answer: str, name: str = HOST) -> int:
        """Start one with a certificate for a name; return its port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)

        def talk(plain: socket.socket) -> None:
            with context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(4096)
                connection.sendall(f"{answer}\r\nContent-Length: 0\r\n\r\n".encode())

        return self._start(talk)

    def plain(self) -> int:
        """Start one that speaks no TLS."""
        return self._start(lambda connection: connection.sendall(b"220 smtp.example.org\r\n"))

    def deaf(self) -> int:
        """Have a port whose queue is full."""
        server = self.stack.enter_context(socket.create_server((HOST, 0), backlog=0))
        for _ in range(3):
            waiting = self.stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        return int(server.getsockname()[1])

    def _start(self, talk: Callable[[socket.socket], None]) -> int:
        server = socket.create_server((HOST, 0))
        self.stack.callback(server.close)
        self.stack.callback(server.shutdown, socket.SHUT_RDWR)

        def serve() -> None:
            with suppress(OSError):  # it is closed
                while True:
                    connection = server.accept()[0]
                    with connection, suppress(OSError):
                        talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])


@pytest.fixture
def endpoints() -> Iterator[Endpoints]:
    """Endpoints that end with the test."""
    with ExitStack() as stack:
        yield Endpoints(stack)


@pytest.fixture(params=["2.16", "newest"])
def desk(request: pytest.FixtureRequest, make_desk: MakeDesk) -> Desk:
    """Run the modules by the oldest and the newest Ansible."""
    made: Desk = make_desk(request.param)
    return made


def told(desk: Desk, module: str, options: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Run a module once for each of some options; return what it says of each, in one line."""
    tasks: list[dict[str, Any]] = [
        {module: given, "register": f"told_{number}", "ignore_errors": True}
        for number, given in enumerate(options.values())
    ]
    values = ", ".join(f"told_{number}.msg" for number in range(len(options)))
    content = {
        "content": f"{{{{ [{values}] | to_json }}}}",
        "dest": str(desk.folder / "facts.json"),
    }
    tasks.append({"ansible.builtin.copy": {**content, "mode": "0600"}})
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    desk.settings["ANSIBLE_LIBRARY"] = str(LIBRARY / "library")
    desk.settings["ANSIBLE_MODULE_UTILS"] = str(LIBRARY / "module_utils")
    run = desk.playbook(desk.write("messages.yml", [play]))
    assert run.facts is not None, run.output
    assert SECRET not in run.output
    assert "Traceback" not in run.output
    messages = dict(zip(options, map(str, run.facts), strict=True))
    assert not [message for message in messages.values() if "\n" in message]
    return messages


def test_every_fault_of_an_endpoint_is_told_apart(desk: Desk, endpoints: Endpoints) -> None:
    """With the endpoint, its address, and what to do."""
    ours = {"username": "buildset", "password": SECRET, "host": HOST, "cert": endpoints.cert}
    closed, fault = free_port(), "the pull endpoint {}:{} {}"
    wanted: dict[str, tuple[dict[str, Any], str]] = {
        "port": ({"port": 0}, "port of the registry is 0, which is no port; use the facts"),
        "push_port": ({"port": 1, "push_port": 70000}, "push_port of the registry is 70000, which"),
        "closed": ({"port": closed}, "refuses connections: nothing listens there"),
        "name": ({"port": 1, "host": "registry.invalid"}, "has a name that does not resolve"),
        "nowhere": ({"port": 1, "host": UNREACHABLE}, "cannot be reached (Network is unreach"),
        "plain": ({"port": endpoints.plain()}, "does not speak TLS ("),
        "deaf": ({"port": endpoints.deaf()}, "does not answer within 1 s; let this node through"),
        "names": (
            {"port": endpoints.answering("", "registry.example.org")},
            "has a certificate for other names (",
        ),
        "another": (
            {"port": endpoints.answering(""), "cert": CERTIFICATE},
            "has a certificate that cert does not verify (",
        ),
        **{
            answer: ({"port": endpoints.answering(answer)}, text)
            for answer, text in ANSWERS.items()
        },
    }
    options = {
        name: {"registry": {**ours, **given}, "timeout": 1} for name, (given, _) in wanted.items()
    }
    options["timeout"] = {"registry": {**ours, "port": 1}, "timeout": 0}
    found = told(desk, "buildset_registry_info", options)
    assert found.pop("timeout").startswith("timeout is 0; give it the seconds that an endpoint")
    for name, (given, text) in wanted.items():
        address = fault.format(given.get("host", HOST), given["port"], "")
        assert text in found[name], found
        assert found[name].startswith(address if "port" not in name else text), found
        assert "; " in found[name]


def test_every_fault_of_the_command_is_told_apart(desk: Desk) -> None:
    """By the last line that it says, or what it lacks."""
    options = {"missing": {"command": "/none/there"}}
    for name, script in COMMANDS.items():
        path = desk.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        options[name] = {"command": str(path)}
    found = told(desk, "buildset_registry_info", options)
    for name, text in TOLD_OF_COMMANDS.items():
        assert text in found[name], found
    running = {name: {**given, "state": "stopped"} for name, given in options.items()}
    running = {name: {**given, "root": str(desk.folder)} for name, given in running.items()}
    found = told(desk, "buildset_registry", running)
    assert "two, and what to do" in found["telling"]
    assert "talking down did not answer in JSON" in found["talking"]
    assert "does not know (KeyError at buildset_registry.py:" in found["partial"]


HOMELESS = """\
import importlib.util, os, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1] + "/module_utils")
spec = importlib.util.spec_from_file_location("m", sys.argv[1] + "/library/buildset_registry.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
os.getuid = lambda: 4294967
os.environ.pop("HOME")
try:
    module.root_folder({"root": None})
except module.command.CommandError as error:
    print(error)
"""


def test_user_without_a_home_is_told_which_option_to_set(desk: Desk) -> None:
    """As a container has one, who is a number only."""
    done = desk.command(desk.environment / "bin" / "python", "-c", HOMELESS, LIBRARY)
    assert done.stdout == "this user has no home; set the option root, or HOME\n"
