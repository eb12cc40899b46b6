# SPDX-License-Identifier: Apache-2.0
"""``use``: have the container tools of this machine use a registry, or undo that.

It is what the role ``use_buildset_registry`` does, by the role's own code (``buildset_clients``),
which names the role's variables in its messages; here they become this command's options.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from buildset_registry.cli.options import add_command, add_json, add_root, path
from buildset_registry.cli.output import say, say_json
from buildset_registry.errors import ConfigError

if TYPE_CHECKING:
    from buildset_clients.main import Order
    from buildset_clients.registry import Setup

_ALIAS = "zuul-jobs.buildset-registry"
_FACTS = ("host", "port", "username", "password", "cert")
#: Words of the role's messages, and what they are here.
_WORDS = (
    (r"become: true, or sudo without a password", "run it with sudo"),
    (r"buildset_registry_become: false", "--as-user"),
    (r"buildset_registry_(\w+): (?:true|false)", r"--\1"),
    (r"buildset_registry_(\w+): (\w+)", r"--\1 \2"),
    (r"buildset_registry_(\w+?)s?\b(?=[\[.: ])", r"--\1"),
    (r"the role run_buildset_registry", "buildset-registry up --json"),
    (r"run the role again", "run this again"),
    (r"[Tt]his role", "this command"),
    (r"the role", "this command"),
)
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--facts",
        {
            "metavar": "FILE",
            "help": "the facts of a registry elsewhere, as up --json prints them; - reads "
            "standard input",
        },
    ),
    (
        "--client",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME",
            "help": "a client to configure (those that the machine has); may be repeated",
        },
    ),
    (
        "--namespace",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME=URL",
            "help": "a registry that it stands in for (its upstreams); may be repeated",
        },
    ),
    (
        "--unqualified",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME",
            "help": "a registry to look in for short names (docker.io); may be repeated",
        },
    ),
    (
        "--user",
        {
            "action": "append",
            "default": [],
            "metavar": "NAME",
            "help": "a user who gets the credentials as well; may be repeated",
        },
    ),
    ("--alias", {"default": _ALIAS, "metavar": "NAME", "help": "its other name (%(default)s)"}),
    (
        "--signature-policy",
        {
            "choices": ["keep", "relax"],
            "default": "keep",
            "help": "what to do where a policy.json wants signatures (%(default)s)",
        },
    ),
    (
        "--system-trust",
        {
            "action": argparse.BooleanOptionalAction,
            "default": True,
            "help": "have the system's store of certificates trust it (the default)",
        },
    ),
    (
        "--docker-every-registry",
        {"action": "store_true", "help": "have docker reach every registry by its proxy"},
    ),
    (
        "--restart-command",
        {
            "action": "append",
            "default": [],
            "metavar": "CLIENT=COMMAND",
            "help": "what restarts a daemon that is no service; may be repeated",
        },
    ),
    ("--as-user", {"action": "store_true", "help": "leave daemons of root's as they are"}),
    (
        "--canary",
        {
            "action": argparse.BooleanOptionalAction,
            "default": True,
            "help": "pull an image that exists nowhere else by every client (the default)",
        },
    ),
    ("--undo", {"action": "store_true", "help": "make every file what it was before"}),
    ("--check", {"action": "store_true", "help": "change nothing; print what would change"}),
)


def add(commands: Any) -> None:
    """Declare the command."""
    use = add_command(
        commands, "use", run, "Have the container tools of this machine use the registry."
    )
    add_root(use)
    for name, settings in _OPTIONS:
        use.add_argument(name, **settings)
    add_json(use, "print what was changed as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Configure the clients, or undo it."""
    try:
        from buildset_clients.errors import ClientError, unexpected
        from buildset_clients.masking import mask_logins
    except ImportError:
        raise ConfigError(
            "this installation lacks the package buildset_clients; install buildset-registry "
            "from its wheel, or from a whole checkout"
        ) from None
    try:
        result = _work(arguments)
    except ClientError as error:
        raise ConfigError(_said(mask_logins(str(error)))) from None
    except ConfigError:
        raise
    except Exception as error:  # its words may hold a password of somebody's file
        raise ConfigError(_said(unexpected(error))) from None
    if arguments.json:
        say_json(result)
        return 0
    for line in result["difference"] if arguments.check else []:
        say(line)
    for note in result["notes"]:
        sys.stderr.write(f"buildset-registry: {_said(note)}\n")
    say(_summary(arguments, result))
    return 0


def _work(arguments: argparse.Namespace) -> dict[str, Any]:
    from buildset_clients import main

    order = _order(arguments)
    if arguments.undo:
        return main.restore(order)
    return main.use(order, _setup(arguments))


def _order(arguments: argparse.Namespace) -> Order:
    from buildset_clients import main
    from buildset_clients.arguments import commands

    unknown = sorted(set(arguments.client) - set(main.NAMES))
    if unknown:
        raise ConfigError(f"{unknown[0]!a} is no client; known: {', '.join(main.NAMES)}")
    restarts = dict(_pair("--restart-command", text) for text in arguments.restart_command)
    return main.Order(
        users=arguments.user,
        clients=arguments.client,
        store=arguments.system_trust,
        commands=commands(restarts),
        canary=arguments.canary,
        as_user=arguments.as_user,
        dry=arguments.check,
    )


def _setup(arguments: argparse.Namespace) -> Setup:
    from buildset_clients.arguments import check
    from buildset_clients.registry import Setup

    facts, upstreams = _told(arguments) if arguments.facts else _own(arguments)
    if not arguments.docker_every_registry:
        facts.pop("proxy_port", None)
    elif "proxy_port" not in facts:
        raise ConfigError(
            "the registry has no proxy for docker; start it with --proxy-port, or leave "
            "--docker-every-registry out"
        )
    given = [list(_pair("--namespace", text)) for text in arguments.namespace]
    namespaces = given or [list(pair) for pair in upstreams.items()]
    check(
        {
            "state": "present",
            "registry": facts,
            "alias": arguments.alias,
            "namespaces": namespaces,
            "restart_commands": {},
        }
    )
    setup = Setup.read(facts, arguments.alias, namespaces, arguments.unqualified or ["docker.io"])
    return replace(setup, relaxed=arguments.signature_policy == "relax")


def _own(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the facts of the registry in the folder, and its upstreams with their URLs."""
    from buildset_registry.config import load
    from buildset_registry.instance.paths import InstancePaths
    from buildset_registry.instance.plan import read_facts

    paths = InstancePaths(arguments.root)
    facts = read_facts(paths)
    if facts is None:
        raise ConfigError(
            f"there is no registry in {arguments.root}; run buildset-registry up first, or name "
            "the facts of another one by --facts"
        )
    return facts, {str(one.name): one.url for one in load(paths.config).upstreams}


def _told(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the facts that were given, and the usual upstreams."""
    from buildset_registry.config import DEFAULT_UPSTREAMS

    name = arguments.facts
    try:
        text = sys.stdin.read() if name == "-" else path(name).read_text(encoding="utf-8")
        facts = json.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}; name another --facts") from None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not _are_facts(facts):
        raise ConfigError(
            f"{name} does not hold the facts of a registry; give what up --json prints"
        )
    return facts, dict(DEFAULT_UPSTREAMS)


def _are_facts(tree: dict[str, Any]) -> bool:
    ports = [tree.get(key) for key in ("port", "push_port", "proxy_port")]
    if not all(port is None or _is_number(port) for port in ports):
        return False
    texts = {key: value for key, value in tree.items() if "port" not in key}
    # What is wrong with a certificate that is not there, is told with what to do.
    given = [value for key, value in texts.items() if (key, value) != ("cert", None)]
    return set(_FACTS) <= set(tree) and all(isinstance(value, str) for value in given)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise ConfigError(f"{option} {text!a} has no name and value; write NAME=VALUE")
    return name, value


def _summary(arguments: argparse.Namespace, result: dict[str, Any]) -> str:
    """Return what was done in a line."""
    files = ", ".join(result["paths"]) or "nothing"
    if arguments.check:
        return f"would change: {files}"
    if arguments.undo:
        return f"as it was before: {files}"
    tried = f"; tried: {', '.join(result['tried'])}" if result["tried"] else ""
    return f"configured: {', '.join(result['clients']) or 'nothing'} (changed: {files}){tried}"


def _said(text: str) -> str:
    """Return a message of the role as this command says it."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return re.sub(r"--[a-z_]+", lambda found: found[0].replace("_", "-"), text)
