# SPDX-License-Identifier: Apache-2.0
"""The life of a registry on this machine: ``up``, ``status`` and ``down``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from buildset_registry import __version__
from buildset_registry.config import load
from buildset_registry.errors import ConfigError
from buildset_registry.files import write_file
from buildset_registry.instance import systemd
from buildset_registry.instance.inspection import Finding, Inspection, inspect
from buildset_registry.instance.options import Options
from buildset_registry.instance.paths import InstancePaths, read_file
from buildset_registry.instance.plan import (
    Plan,
    certificate_file,
    make_plan,
    read_facts,
    read_supervisor,
)
from buildset_registry.instance.probe import Probe
from buildset_registry.instance.process import ForegroundSupervisor, ProcessSupervisor
from buildset_registry.server.handover import HeldPorts, hold_ports

_START_SECONDS = 60.0
#: How long a registry may take to end, beyond ``limits.shutdown_seconds``; and where its
#: configuration cannot be read.
_CLOSING, _STOP_SECONDS = 30.0, 60.0
_STEP = 0.01


class Supervisor(Protocol):
    """A way to run a registry."""

    @property
    def name(self) -> str:
        """Return its name, as ``--supervisor`` has it."""

    def pid(self) -> int | None:
        """Return the process that runs the registry, or None."""

    def start(self) -> None:
        """Start the registry."""

    def stop(self, seconds: float) -> bool:
        """Stop it within so many seconds, and tell whether it ran."""

    def remove(self) -> None:
        """Leave nothing of the supervision behind."""


@dataclass(frozen=True, slots=True)
class UpReport:
    """The changes that ``up`` made, or would make, and the facts (None where there are none)."""

    changes: list[str]
    facts: dict[str, Any] | None = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    certificate: Path | None = None
    """The file of ``cert``, where there is one."""


@dataclass(frozen=True, slots=True)
class DownReport:
    """Whether ``down`` changed anything, and what stays in a folder that was to be removed."""

    changed: bool
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatus:
    """The state of a registry and its facts (None where it is not set up)."""

    running: bool
    answers: bool
    pid: int | None
    root: str
    log: str | None
    supervisor: str | None
    version: str = __version__
    facts: dict[str, Any] | None = field(default=None, repr=False)
    certificate: dict[str, Any] | None = None
    storage: dict[str, Any] | None = None
    processes: list[dict[str, Any]] = field(default_factory=list)
    attention: list[Finding] = field(default_factory=list)
    """What needs a look."""


def up(paths: InstancePaths, options: Options) -> UpReport:
    """Make what is missing, start the registry, and wait until it answers."""
    make_plan(paths, options)  # refuses mistakes before anything is made
    paths.prepare()
    with paths.exclusive():
        plan = make_plan(paths, options)
        supervisor = _choose(plan, options)
        _end_other(paths, supervisor)
        changes, running = list(plan.changes), supervisor.pid() is not None
        plan.write(supervisor.name)
        stamp = plan.stamp()
        if not running or read_file(paths.started) != stamp:
            changes.append("restarted" if running else "started")
            if running:
                _restart(plan, supervisor)
            else:
                _start(plan, supervisor)
            write_file(paths.started, stamp)
        else:
            _wait(plan, supervisor)
    warnings = _warnings(plan) if changes else []
    return UpReport(changes, read_facts(paths), warnings, certificate_file(plan))


def take(paths: InstancePaths, options: Options) -> UpReport:
    """Make what is missing, and let this process be the registry: it has to serve next."""
    make_plan(paths, options)
    paths.prepare()
    with paths.exclusive():
        plan = make_plan(paths, options)
        supervisor = ForegroundSupervisor(paths)
        _end_other(paths, supervisor)
        supervisor.take()
        plan.write(supervisor.name)
        write_file(paths.started, plan.stamp())
    changes = [*plan.changes, "started"]
    return UpReport(changes, read_facts(paths), _warnings(plan), certificate_file(plan))


def foresee(paths: InstancePaths, options: Options) -> UpReport:
    """Tell what ``up`` would change, and change nothing."""
    plan = make_plan(paths, options)
    supervisor = _choose(plan, options)
    changes = list(plan.changes)
    if supervisor.pid() is None:
        changes.append("started")
    elif changes or read_file(paths.started) != plan.stamp():
        changes.append("restarted")
    return UpReport(changes, read_facts(paths), certificate=certificate_file(plan))


def down(paths: InstancePaths, *, purge: bool) -> DownReport:
    """End the registry, and with ``purge`` remove it."""
    if not paths.root.exists():
        return DownReport(changed=False)
    if not paths.instance.exists():
        raise ConfigError(
            f"{paths.root} is not the folder of a registry; name the right one by --root"
        )
    paths.prepare()  # of a backup that was put back, before the lock in it can be taken
    with paths.exclusive():
        supervisor = _previous(paths)
        left: list[str] = []
        changed = supervisor.stop(_stopping(paths))
        paths.started.unlink(missing_ok=True)
        if purge:
            supervisor.remove()
            left = paths.remove()
            changed = True
    return DownReport(changed, left)


def status(paths: InstancePaths) -> InstanceStatus:
    """Look at a registry."""
    supervisor = _previous(paths)
    pid = supervisor.pid()
    facts = read_facts(paths)
    plan = make_plan(paths, Options()) if facts else None
    log = plan.log if plan else None
    seen = inspect(plan.config, paths.certificate) if plan else Inspection()
    return InstanceStatus(
        running=pid is not None,
        answers=pid is not None and plan is not None and _all_answer(plan.probe),
        pid=pid,
        root=str(paths.root),
        log=str(log) if log else None,
        supervisor=read_supervisor(paths),
        facts=facts,
        **_told(seen),
    )


def status_of_configuration(file: Path) -> InstanceStatus:
    """Look at a registry that ``serve`` was given a configuration for; it has no facts."""
    config = load(file)
    seen = inspect(config)
    answers = _all_answer(Probe.of(config, InstancePaths(file.parent)))
    pids = [one["pid"] for one in seen.processes if len(seen.processes) == 1]
    return InstanceStatus(
        running=answers,
        answers=answers,
        pid=pids[0] if pids else None,
        root=str(file.parent),
        log=str(config.log.file) if config.log.file else None,
        supervisor=None,
        **_told(seen),
    )


def check_health(file: Path) -> list[str]:
    """Return the ports of a configuration's endpoints that do not answer."""
    if not file.exists():
        raise ConfigError(
            f"there is no registry in {file.parent}; name its folder by --root, "
            "or its configuration by --config"
        )
    probe = Probe.of(load(file), InstancePaths(file.parent))
    return [str(end.port) for end in probe.silent(probe.endpoints)]


def _told(seen: Inspection) -> dict[str, Any]:
    return {
        name: getattr(seen, name) for name in ("certificate", "storage", "processes", "attention")
    }


def _warnings(plan: Plan) -> list[str]:
    """Return what has to be known of the lock that is replayed from now on."""
    if plan.config.lock is None:
        return []
    from buildset_registry.server.replay import warnings

    return warnings(plan.config)


def _choose(plan: Plan, options: Options) -> Supervisor:
    """Return the supervisor that is to run the registry."""
    kind = options.supervisor
    if kind == "auto":
        kind = "systemd" if systemd.available() else "process"
    if kind == "foreground":
        return ForegroundSupervisor(plan.paths)
    if kind == "process":
        return ProcessSupervisor(plan.paths)
    if not systemd.available():
        raise ConfigError(
            "--supervisor systemd needs root and a host that systemd runs; use process or auto"
        )
    return systemd.SystemdSupervisor(plan.paths, systemd.Needs.of(plan.config, plan.probe))


def _previous(paths: InstancePaths) -> Supervisor:
    """Return the supervisor that ran the registry last."""
    name = read_supervisor(paths)
    if name == "systemd":
        return systemd.SystemdSupervisor(paths)
    return ForegroundSupervisor(paths) if name == "foreground" else ProcessSupervisor(paths)


def _end_other(paths: InstancePaths, chosen: Supervisor) -> None:
    """End the registry where another supervisor runs it than the chosen one."""
    previous = _previous(paths)
    if previous.name != chosen.name:
        previous.stop(_stopping(paths))
        previous.remove()


def _stopping(paths: InstancePaths) -> float:
    """Return how long running requests may take when a registry is stopped."""
    try:
        seconds = load(paths.config).limits.shutdown_seconds
    except ConfigError:
        return _STOP_SECONDS
    return seconds + _CLOSING if seconds else float("inf")


def _start(plan: Plan, supervisor: Supervisor) -> None:
    """Start it; where that fails, leave nothing that the next ``up`` would trip over."""
    try:
        supervisor.start()
        _wait(plan, supervisor)
    except ConfigError:
        supervisor.stop(_stopping(plan.paths))
        plan.undo()
        raise


def _restart(plan: Plan, supervisor: Supervisor) -> None:
    """Stop it and start it anew, as it was before where it fails; who connects meanwhile waits."""
    with hold_ports(plan.config) as held:
        supervisor.stop(_stopping(plan.paths))
        try:
            supervisor.start()
            _wait_until_taken(held, supervisor)
            _wait(plan, supervisor)
        except ConfigError:
            held.close()
            supervisor.stop(_stopping(plan.paths))
            plan.undo()
            if "configuration" in plan.changes:
                supervisor.start()
            raise


def _wait_until_taken(held: HeldPorts, supervisor: Supervisor) -> None:
    """Wait until the server has taken its ports; one that could not do so is started once more."""
    deadline = time.monotonic() + _START_SECONDS
    while held.waiting and supervisor.pid() is not None and time.monotonic() < deadline:
        time.sleep(_STEP)
    if held.waiting:
        held.close()
        supervisor.stop(_STOP_SECONDS)
        supervisor.start()


def _wait(plan: Plan, supervisor: Supervisor) -> None:
    """Wait until every endpoint answers, or say why one does not."""
    begun = time.monotonic()
    probe = plan.probe
    waiting = probe.silent(probe.endpoints)
    while waiting:
        waited = time.monotonic() - begun
        if supervisor.pid() is None:
            raise ConfigError(
                _last_words(plan.paths) or "the registry ended without saying why; see its log"
            )
        if waited > _START_SECONDS:
            ports = ", ".join(str(end.port) for end in waiting)
            raise ConfigError(
                f"the registry does not answer on port {ports} after {waited:.0f} s; "
                f"see {plan.log or plan.paths.last_words}"
            )
        time.sleep(_STEP)
        waiting = probe.silent(waiting)


def _all_answer(probe: Probe) -> bool:
    return not probe.silent(probe.endpoints)


def _last_words(paths: InstancePaths) -> str | None:
    """Return the last line that the server wrote to standard error."""
    lines = [line for line in (read_file(paths.last_words) or "").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("buildset-registry: ") if lines else None
