# SPDX-License-Identifier: Apache-2.0
"""``up``: set up a registry, start it, print how to use it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from buildset_registry.cli import facts, loop
from buildset_registry.cli.options import (
    add_command,
    add_json,
    add_root,
    path,
    port,
    seconds,
)
from buildset_registry.cli.output import say, say_json, usage
from buildset_registry.errors import ConfigError

if TYPE_CHECKING:
    from buildset_registry.instance.lifecycle import UpReport
    from buildset_registry.instance.options import Replay
    from buildset_registry.instance.paths import InstancePaths
    from buildset_registry.instance.sections import Sections

#: The options that say something of the registry itself; what is not given stays as it was.
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--host", {"metavar": "NAME", "help": "the name or address that other nodes use"}),
    ("--port", {"type": port, "metavar": "N", "help": "port of the pull endpoint (5000)"}),
    ("--push-port", {"type": port, "metavar": "N", "help": "port of the push endpoint (5001)"}),
    (
        "--single-port",
        {"action": argparse.BooleanOptionalAction, "help": "serve both endpoints on --port"},
    ),
    (
        "--proxy-port",
        {"type": port, "metavar": "N", "help": "also be an HTTPS proxy for docker, on this port"},
    ),
    (
        "--no-proxy",
        {
            "action": "store_const",
            "const": 0,
            "dest": "proxy_port",
            "help": "do not be a proxy for docker (the default)",
        },
    ),
    ("--alias", {"metavar": "NAME", "help": "another name in the certificate"}),
    (
        "--anonymous-pull",
        {"action": argparse.BooleanOptionalAction, "help": "let everybody pull (the default)"},
    ),
    (
        "--allow-network",
        {
            "action": "append",
            "dest": "networks",
            "metavar": "CIDR",
            "help": "admit only clients from this network; may be repeated",
        },
    ),
    (
        "--allow-any-network",
        {
            "action": "store_const",
            "const": [],
            "dest": "networks",
            "help": "admit clients from every network (the default)",
        },
    ),
    (
        "--upstreams-file",
        {
            "metavar": "FILE",
            "help": "the registries to pull through, as YAML or JSON; - reads standard input",
        },
    ),
    (
        "--tag-seconds",
        {
            "type": seconds,
            "metavar": "N",
            "help": "seconds until upstream is asked again about a tag, or forever (the default)",
        },
    ),
    (
        "--lock",
        {
            "type": path,
            "metavar": "FILE",
            "help": "serve the tags in this lock by the digests that they have there",
        },
    ),
    (
        "--lock-mode",
        {
            "choices": ["prefer", "strict"],
            "help": "whether upstreams are asked about other tags: prefer (the default) or strict",
        },
    ),
    (
        "--images",
        {
            "metavar": "oci:DIR",
            "help": "a folder with the images of the lock, as copy --lock makes it",
        },
    ),
    (
        "--no-lock",
        {"action": "store_true", "help": "serve tags as upstreams have them (the default)"},
    ),
    (
        "--settings-file",
        {
            "metavar": "FILE",
            "help": "sections of the configuration as they are to be; - is standard input",
        },
    ),
    ("--log-dir", {"type": path, "metavar": "DIR", "help": "the folder of the log"}),
    (
        "--supervisor",
        {
            "choices": ["auto", "systemd", "process"],
            "default": "auto",
            "help": "what keeps it running; auto is systemd for root where that runs, else process",
        },
    ),
    (
        "--foreground",
        {
            "action": "store_const",
            "const": "foreground",
            "dest": "supervisor",
            "help": "serve in this process until SIGTERM, and log to standard error",
        },
    ),
    (
        "--report",
        {
            "action": "store_true",
            "help": "with --json, print what was changed as well as the facts",
        },
    ),
    ("--check", {"action": "store_true", "help": "change nothing; print what would change"}),
)


def add(commands: Any) -> None:
    """Declare the command."""
    up = add_command(
        commands, "up", run, "Set up a registry here, start it, and print how to use it."
    )
    add_root(up)
    for name, settings in _OPTIONS:
        up.add_argument(name, **settings)
    printed = up.add_mutually_exclusive_group()
    add_json(printed, "print the facts as JSON, the password included")
    printed.add_argument(
        "--format",
        choices=facts.FORMATS,
        help="tell the facts to a CI system: outputs, dotenv, or lines for a shell to evaluate",
    )


def run(arguments: argparse.Namespace) -> int:
    """Start a registry and print its facts."""
    from buildset_registry.instance.lifecycle import foresee, take, up
    from buildset_registry.instance.options import Options
    from buildset_registry.instance.paths import InstancePaths

    options = Options(
        host=arguments.host,
        port=arguments.port,
        push_port=arguments.push_port,
        single_port=arguments.single_port,
        proxy_port=arguments.proxy_port,
        alias=arguments.alias,
        upstreams=_read_upstreams(arguments.upstreams_file),
        anonymous_pull=arguments.anonymous_pull,
        allowed_networks=arguments.networks,
        tag_seconds=arguments.tag_seconds,
        lock=_replay(arguments),
        sections=_read_sections(arguments.settings_file),
        log_dir=arguments.log_dir,
        supervisor=arguments.supervisor,
    )
    if arguments.format:
        facts.check(arguments.format)
    paths = InstancePaths(arguments.root)
    foreground = arguments.supervisor == "foreground" and not arguments.check
    loop.without_log()
    act = foresee if arguments.check else take if foreground else up
    report = act(paths, options)
    for warning in report.warnings:
        sys.stderr.write(f"buildset-registry: {warning}\n")
    _say(arguments, paths, report)
    if foreground:
        _serve(paths)
    return 0


def _say(arguments: argparse.Namespace, paths: InstancePaths, report: UpReport) -> None:
    """Print what was done, and how to use the registry."""
    if arguments.json:
        say_json(_report(report) if arguments.report else report.facts)
    elif arguments.check:
        say(f"would change: {', '.join(report.changes) or 'nothing'}")
    elif arguments.format:
        say(facts.shown(arguments.format, paths.root, report.facts or {}, report.certificate))
    else:
        started = bool(report.changes)
        say(usage(paths.root, report.facts or {}, report.certificate, started=started))


def _serve(paths: InstancePaths) -> NoReturn:
    """Become the server: another program in this process, without what ``up`` has loaded."""
    sys.stdout.flush()
    words = [sys.executable, "-m", "buildset_registry", "serve", "--config", str(paths.config)]
    os.execv(sys.executable, words)  # noqa: S606  # no shell is what is wanted


def _replay(arguments: argparse.Namespace) -> Replay:
    from buildset_registry.instance.options import Replay

    folder = arguments.images
    if folder is not None and not folder.removeprefix("oci:"):
        raise ConfigError(f"--images {folder!r} names no folder; write oci:DIR")
    images = path(folder.removeprefix("oci:")) if folder else None
    return Replay(arguments.lock, arguments.lock_mode, images, off=arguments.no_lock)


def _report(report: UpReport) -> dict[str, Any]:
    tree = {"changed": bool(report.changes), "changes": report.changes, "facts": report.facts}
    return {**tree, "warnings": report.warnings} if report.warnings else tree


def _read_sections(name: str | None) -> Sections:
    from buildset_registry.instance.sections import Sections

    return Sections() if name is None else Sections.read(_text(name, "--settings-file"), name)


def _text(name: str, option: str) -> str:
    """Return the text of a file, or of standard input."""
    try:
        return sys.stdin.read() if name == "-" else path(name).read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {name}: {error.strerror}; give another file with {option}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8: byte {error.start} is no text") from None


def _read_upstreams(name: str | None) -> list[dict[str, Any]] | None:
    if name is None:
        return None
    from buildset_registry.yaml_text import read_yaml

    tree = read_yaml(_text(name, "--upstreams-file"), name)
    if not isinstance(tree, list) or not all(isinstance(item, dict) for item in tree):
        raise ConfigError(f"{name} must be a list of upstreams, each with name and url")
    return tree
