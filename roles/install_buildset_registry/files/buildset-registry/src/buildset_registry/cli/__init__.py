# SPDX-License-Identifier: Apache-2.0
"""The command line: each command builds values, calls one function, prints, and exits.

A command is a module with ``add``, which declares it, and a name in ``COMMANDS``.

Exit codes: 0, done; 1, refused or failed; 2, the command line or the configuration is wrong; 3,
``status`` of a registry that does not run. Every error is one line on standard error.
"""

from __future__ import annotations

import argparse
import gc as cycles  # gc is a command, which becomes an attribute of this package
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from buildset_registry import __version__
from buildset_registry.cli import streams
from buildset_registry.errors import ConfigError

PROGRAM = "buildset-registry"
#: Each a module here, in the order of ``--help``.
COMMANDS = (
    *("serve", "up", "status", "down", "report", "gc", "verify"),
    *("copy", "overlay", "lock", "use", "import-config"),
)

#: Those that need no command.
_OPTIONS = ("-h", "--help", "--version")

#: The exit code of what failed on the way.
FAILED = 1
#: The exit code where the command line or the configuration is wrong.
WRONG = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{PROGRAM}: {message}; see {self.prog} --help\n")


def program() -> NoReturn:
    """Be the program: run the command of the command line, and exit."""
    # Python looks for cycles while it loads modules, and through all that is left at the end, two
    # times: 16 ms of a short command.
    cycles.disable()
    code = main()
    cycles.freeze()
    sys.exit(code)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = sys.argv[1:] if words is None else words
    streams.open_missing()
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return _fail(str(error), WRONG)
    except BrokenPipeError:
        streams.discard_output()
        return FAILED
    except OSError as error:
        return _fail(streams.reason(error), FAILED)
    except MemoryError:
        return _fail("not enough memory; see that no file that is named is too large", FAILED)
    except KeyboardInterrupt:
        return 130


def _run(words: Sequence[str]) -> int:
    first = words[0] if words else ""
    if first.startswith("-") and not any(one.startswith(first) for one in _OPTIONS):
        raise ConfigError(
            f"{first}: the command comes first, its options behind it; see {PROGRAM} --help"
        )
    arguments, unknown = make_parser(words).parse_known_args(words)
    if unknown:
        raise ConfigError(
            f"unrecognized arguments: {' '.join(unknown)}; see {PROGRAM} {first} --help"
        )
    cycles.enable()
    return int(arguments.run(arguments))


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {message}\n")
    return code


def make_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the whole command line, or of the command that the words begin with.

    To import all of them is a fifth of the time that a short command takes.
    """
    parser = _Parser(
        prog=PROGRAM,
        description="A container registry for CI: holds what a buildset pushed, pulls everything "
        "else through.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        command = import_module(f"{__name__}.{name.replace('-', '_')}")
        command.add(commands)
    return parser
