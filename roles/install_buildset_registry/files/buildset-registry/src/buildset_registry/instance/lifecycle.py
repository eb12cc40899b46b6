# SPDX-License-Identifier: Apache-2.0
"""``up``, ``status`` and ``down``: from what is there to what was asked for."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from buildset_registry import __version__
from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.instance import systemd
from buildset_registry.instance.options import Options
from buildset_registry.instance.paths import InstancePaths, read_file, write_file
from buildset_registry.instance.plan import Plan, make_plan, read_facts, read_supervisor
from buildset_registry.instance.probe import answers, listeners
from buildset_registry.instance.process import ProcessSupervisor

_START_SECONDS = 60.0
#: How long running requests may take when a registry is stopped.
_STOP_SECONDS = 60.0
_STEP = 0.01


class Supervisor(Protocol):
    """What runs a registry."""

    @property
    def name(self) -> str:
        """Return what ``--supervisor`` calls it."""

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
    """What ``up`` changed, or would change, and the facts (None where there are none yet)."""

    changes: list[str]
    facts: dict[str, Any] | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What can be said of a registry."""

    running: bool
    answers: bool
    pid: int | None
    root: str
    log: str | None
    supervisor: str | None
    version: str = __version__
    facts: dict[str, Any] | None = field(default=None, repr=False)


def up(place: InstancePaths, options: Options) -> UpReport:
    """Make what is missing, start the registry, and wait until it answers."""
    make_plan(place, options)  # refuses mistakes before anything is made
    place.prepare()
    with place.exclusive():
        plan = make_plan(place, options)
        supervisor = _choose(place, options, plan.config)
        changes, running = list(plan.changes), supervisor.pid() is not None
        _end_other(place, supervisor)
        plan.write(supervisor.name)
        stamp = plan.stamp()
        if not running or read_file(place.started) != stamp:
            changes.append("restarted" if running else "started")
            if running:
                supervisor.stop(_STOP_SECONDS)
            _start(plan, supervisor, again=running)
            write_file(place.started, stamp)
        elif not _all_answer(plan.config, place):
            _wait(plan.config, place, supervisor)
    return UpReport(changes, read_facts(place))


def foresee(place: InstancePaths, options: Options) -> UpReport:
    """Tell what ``up`` would change, and change nothing."""
    plan = make_plan(place, options)
    supervisor = _choose(place, options, plan.config)
    changes = list(plan.changes)
    if supervisor.pid() is None:
        changes.append("started")
    elif changes or read_file(place.started) != plan.stamp():
        changes.append("restarted")
    return UpReport(changes, read_facts(place))


def down(place: InstancePaths, *, purge: bool) -> bool:
    """End the registry, and with ``purge`` remove it; tell whether that changed anything."""
    if not place.root.exists():
        return False
    if not place.instance.exists():
        raise ConfigError(
            f"{place.root} is not the folder of a registry; name the right one by --root"
        )
    with place.exclusive():
        supervisor = _known(place)
        changed = supervisor.stop(_STOP_SECONDS)
        place.started.unlink(missing_ok=True)
        if purge:
            supervisor.remove()
            _remove(place)
            changed = True
    return changed


def status(place: InstancePaths) -> Status:
    """Look at a registry."""
    supervisor = _known(place)
    pid = supervisor.pid()
    facts = read_facts(place)
    config = make_plan(place, Options()).config if facts else None
    log = config.log.file if config else None
    return Status(
        running=pid is not None,
        answers=pid is not None and config is not None and _all_answer(config, place),
        pid=pid,
        root=str(place.root),
        log=str(log) if log else None,
        supervisor=read_supervisor(place),
        facts=facts,
    )


def _choose(place: InstancePaths, options: Options, config: Config) -> Supervisor:
    """Return what is to run the registry."""
    wanted = options.supervisor
    if wanted == "auto":
        wanted = "systemd" if systemd.available() else "process"
    if wanted == "process":
        return ProcessSupervisor(place)
    if not systemd.available():
        raise ConfigError(
            "--supervisor systemd needs root and a host that systemd runs; use process or auto"
        )
    ports = tuple(end.port for end in listeners(config))
    return systemd.SystemdSupervisor(place, ports, config.log.file)


def _known(place: InstancePaths) -> Supervisor:
    """Return what ran the registry last."""
    if read_supervisor(place) == "systemd":
        return systemd.SystemdSupervisor(place)
    return ProcessSupervisor(place)


def _end_other(place: InstancePaths, chosen: Supervisor) -> None:
    """End the registry where something else runs it than what is to run it now."""
    known = _known(place)
    if known.name != chosen.name:
        known.stop(_STOP_SECONDS)
        known.remove()


def _start(plan: Plan, supervisor: Supervisor, *, again: bool) -> None:
    """Start; where that fails, leave what the next ``up`` does not trip over."""
    place = plan.place
    try:
        supervisor.start()
        _wait(plan.config, place, supervisor)
    except ConfigError:
        supervisor.stop(_STOP_SECONDS)
        plan.undo()
        if again and "configuration" in plan.changes:
            supervisor.start()
        raise


def _wait(config: Config, place: InstancePaths, supervisor: Supervisor) -> None:
    """Wait until every endpoint answers, or say why one does not."""
    begun = time.monotonic()
    waiting = listeners(config)
    while waiting:
        waiting = [
            end for end in waiting if not answers(end, _trusted(config, place), tls=_tls(config))
        ]
        waited = time.monotonic() - begun
        if waiting and supervisor.pid() is None:
            raise ConfigError(
                _last_words(place) or "the registry ended without a word; see its log"
            )
        if waiting and waited > _START_SECONDS:
            ports = ", ".join(str(end.port) for end in waiting)
            raise ConfigError(
                f"the registry does not answer on port {ports} after {waited:.0f} s; "
                f"see {config.log.file}"
            )
        if waiting:
            time.sleep(_STEP)


def _all_answer(config: Config, place: InstancePaths) -> bool:
    trusted = _trusted(config, place)
    return all(answers(end, trusted, tls=_tls(config)) for end in listeners(config))


def _tls(config: Config) -> bool:
    return config.tls is not None


def _trusted(config: Config, place: InstancePaths) -> Path | None:
    own = config.tls is not None and config.tls.certificate == place.certificate
    return place.authority if own else None


def _last_words(place: InstancePaths) -> str | None:
    """Return the last line that the server wrote to standard error."""
    lines = [line for line in (read_file(place.last_words) or "").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("buildset-registry: ") if lines else None


def _remove(place: InstancePaths) -> None:
    try:
        shutil.rmtree(place.root)
    except OSError as error:
        raise ConfigError(
            f"cannot remove {error.filename or place.root}: {error.strerror}; remove it by hand"
        ) from None
