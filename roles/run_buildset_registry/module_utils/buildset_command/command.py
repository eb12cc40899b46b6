# SPDX-License-Identifier: Apache-2.0
"""The ``buildset-registry`` command of a node: where it is, and what it answers in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

#: The options of a module that runs the command.
ARGUMENTS = {"root": {"type": "path"}, "command": {"type": "path"}}
#: Where the role installs the command: for root, and for other users below their homes.
SYSTEM_PLACE, HOME_PLACE = Path("/opt/buildset-registry/bin"), ".local/lib/buildset-registry/bin"
#: What ``status`` exits with when the registry does not run.
NOT_RUNNING = 3


class CommandError(Exception):
    """A command that is missing or failed; the message is one line that says what to do."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.result = {} if code is None else {"rc": code}


@contextmanager
def one_line(module: AnsibleModule) -> Iterator[None]:
    """Have a module that meets something unknown say so in one line.

    The words of an error may hold a password, and Ansible shows a trace of it or, with ``no_log``,
    nothing at all.
    """
    try:
        yield
    except Exception as error:
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        name = trace.tb_frame.f_code.co_filename.rpartition("/")[2] if trace else "?"
        place = f"{type(error).__name__} at {name}:{trace.tb_lineno if trace else 0}"
        hint = "check the types of its options, and report it if they are right"
        module.fail_json(
            msg=f"this module has met something that it does not know ({place}); {hint}"
        )


def home() -> list[Path]:
    """Return the user's home; a user who is a number only, as in a container, may have none."""
    try:
        return [Path.home()]
    except (KeyError, RuntimeError):
        return []


def find(module: AnsibleModule) -> str | None:
    """Tell the path of the command, or nothing where it is not installed."""
    given: str | None = module.params["command"]
    if given:
        return given if os.access(given, os.X_OK) else None
    places = [str(SYSTEM_PLACE), *(str(one / HOME_PLACE) for one in home())]
    found: str | None = module.get_bin_path("buildset-registry", opt_dirs=places)
    return found


def run(
    module: AnsibleModule,
    arguments: list[str],
    data: str | None = None,
    accepted: tuple[int, ...] = (0,),
) -> dict[str, Any]:
    """Run the command on the registry that the module's options name, and read its answer."""
    command = find(module)
    if command is None:
        where = module.params["command"] or "PATH"
        hint = "run the role install_buildset_registry, or set the option command to its path"
        raise CommandError(f"the buildset-registry command is not installed ({where}); {hint}")
    root = module.params["root"]
    argv = [command, *arguments, *(["--root", root] if root else [])]
    code, out, err = module.run_command(argv, data=data)
    if code not in accepted:
        lines = [line for line in (err or out).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"it ended with exit code {code}, without a word"
        raise CommandError(reason, code)
    try:
        answer = json.loads(out)
    except (ValueError, RecursionError) as error:
        raise _other_command(command, arguments) from error
    if not isinstance(answer, dict):
        raise _other_command(command, arguments)
    return answer


def _other_command(command: str, arguments: list[str]) -> CommandError:
    hint = "is it the right command?"
    return CommandError(f"{command} {arguments[0]} did not answer in JSON as it should; {hint}")


def status(module: AnsibleModule) -> dict[str, Any]:
    """Ask for the state of the registry, which may not run."""
    return run(module, ["status", "--json"], accepted=(0, NOT_RUNNING))


def mask_password(module: AnsibleModule, facts: dict[str, Any] | None) -> None:
    """Mask the password of the facts in the result of a task that has no ``no_log``."""
    if facts and not module.no_log:
        module.no_log_values.add(facts["password"])
        module.warn("The password is masked: set no_log to true on this task to get it.")
