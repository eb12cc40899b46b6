# SPDX-License-Identifier: Apache-2.0
"""An inspection of a registry from outside: what needs a look before it fails.

The certificate is read where the configuration names it, the storage is asked, and the processes
that serve tell of themselves: by the control socket of a folder, or by their notices in a bucket.
What is found is told in the order in which it matters, each by one line that says what to do.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from buildset_registry.acme.certificate import IssuedCertificate, shown_time
from buildset_registry.acme.renewal import CERTIFICATE, STATE, RenewalState
from buildset_registry.config import AcmeSettings, Config
from buildset_registry.errors import ConfigError, StoreInUse
from buildset_registry.server.acme import documents_of
from buildset_registry.server.certificates import CertificateTimes, Times
from buildset_registry.server.condition import NOTICE_SECONDS
from buildset_registry.server.control_socket import ask_condition
from buildset_registry.store import Purpose, open_store, store_kind
from buildset_registry.store.documents import read_content

_DAY = 24 * 3600
#: Days before its end: ``up`` makes an own certificate anew, and others take their time.
_OWN_DAYS, _GIVEN_DAYS = 30, 14
#: The part of its life before its end in which there should be another one; of what lives for days
#: only that counts.
_LATE_RENEWAL = 1 / 4
#: The part of a disk below which somebody should make room.
_LITTLE = 0.1
#: Intervals after which a collection is late, and seconds after which a notice is.
_LATE_INTERVALS, _LATE_NOTICE = 3, 5 * NOTICE_SECONDS
#: The keys of a notice, at least.
_TOLD = {"host", "pid", "version", "started", "told", "collector", "upstreams"}
#: Seconds that a storage may take to answer.
_STORAGE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that needs a look: of what, and in one line what is wrong and what to do."""

    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The things that were seen, as plain values, and the findings."""

    certificate: dict[str, Any] | None = None
    """Its file, or why none is issued, and when it ends."""

    storage: dict[str, Any] | None = None
    """Why it cannot be used, and the bytes that are free of how many."""

    processes: list[dict[str, Any]] = field(default_factory=list)
    """What each process tells of itself."""

    attention: list[Finding] = field(default_factory=list)


def inspect(config: Config, own_certificate: Path | None = None) -> Inspection:
    """Look at a registry by its configuration; ``own_certificate`` is one that ``up`` makes."""
    now = time.time()
    certificate = _certificate(config)
    storage, processes = asyncio.run(_look(config))
    seen = Inspection(certificate=certificate, storage=storage, processes=processes)
    return replace(seen, attention=findings(seen, own_certificate, now))


def findings(seen: Inspection, own_certificate: Path | None, now: float) -> list[Finding]:
    """Return what needs a look of what was seen."""
    return [
        *_certificate_findings(seen.certificate, own_certificate, now),
        *_storage_findings(seen.storage),
        *_replica_findings(seen.processes, now),
        *_collector_findings(seen.processes, now),
        *_rules_findings(seen.processes, now),
        *_retention_findings(seen.processes),
        *_upstream_findings(seen.processes, now),
    ]


def _certificate(config: Config) -> dict[str, Any] | None:
    if config.acme is not None:
        return _issued_certificate(config, config.acme)
    if config.tls is None:
        return None
    file = config.tls.certificate
    begins, ends = CertificateTimes(file)() or (None, None)
    return {"file": str(file), "begins": begins, "ends": ends}


def _issued_certificate(config: Config, acme: AcmeSettings) -> dict[str, Any]:
    """Return when it ends, in seconds since the epoch, and in a line what needs a look."""
    try:
        found, state = asyncio.run(asyncio.wait_for(_read_issued(config, acme), _STORAGE_SECONDS))
    except (ConfigError, OSError, asyncio.TimeoutError) as error:
        reason = str(error) or f"nothing answers within {_STORAGE_SECONDS:.0f} s"
        return _issued(None, f"the certificate cannot be looked at: {reason}")
    if found is None or not found.ordered_by(acme.directory, acme.names):
        problem = _why(state) or "no certificate was issued yet; see the log"
        return _issued(None, problem)
    now, ends = time.time(), found.times[1]
    if not found.due(now):  # what failed before it was issued is over
        return _issued(found.times, None)
    verb = "ended" if ends <= now else "ends"
    told = f"the certificate {verb} on {shown_time(ends)}; see the log"
    late = ends - now < _last_part(found.times, _GIVEN_DAYS)
    return _issued(found.times, _why(state) or (told if late else None))


def _last_part(times: Times, days: int) -> float:
    """Return the seconds before the end in which somebody should have made another one."""
    begins, ends = times
    return min(days * _DAY, (ends - begins) * _LATE_RENEWAL)


def _why(state: RenewalState) -> str | None:
    """Return why the last order failed, and when the next one is made."""
    if not state.problem:
        return None
    return f"no certificate is issued: {state.problem}; again {shown_time(state.again)}"


def _issued(times: Times | None, problem: str | None) -> dict[str, Any]:
    begins, ends = times or (None, None)
    return {"file": None, "begins": begins, "ends": ends, "problem": problem}


async def _read_issued(
    config: Config, acme: AcmeSettings
) -> tuple[IssuedCertificate | None, RenewalState]:
    """Read what all replicas share."""
    async with AsyncExitStack() as stack:
        store = None
        if acme.folder is None and store_kind(config).lasting:
            store = await open_store(config, Purpose.READ)
            stack.push_async_callback(store.aclose)
        documents = documents_of(acme, store)
        content = await read_content(documents, CERTIFICATE)
        state = RenewalState.of_json(await read_content(documents, STATE))
    return IssuedCertificate.of_json(content) if content else None, state


async def _look(config: Config) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the state of the storage, and what the processes that use it tell."""
    socket = store_kind(config).control_socket(config)
    if socket is not None:
        told = await ask_condition(socket)
        if told:
            return told.get("storage"), [told]
    if not store_kind(config).lasting or (socket is not None and not socket.parent.is_dir()):
        return None, []
    try:
        return await asyncio.wait_for(_ask_storage(config), _STORAGE_SECONDS)
    except StoreInUse:
        return None, []
    except asyncio.TimeoutError:
        problem = f"it does not answer within {_STORAGE_SECONDS:.0f} s"
    except (ConfigError, OSError) as error:
        problem = str(error).removeprefix("storage: ")
    return {"problem": problem, "free_bytes": None, "size_bytes": None}, []


async def _ask_storage(config: Config) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async with aclosing(await open_store(config, Purpose.READ)) as store:
        free, size = store.space.free() or (None, None)
        replicas = store.space.replicas
        problem = await store.space.problem() if replicas is not None else None
        notices = await replicas.told() if replicas is not None else ()
    return {"problem": problem, "free_bytes": free, "size_bytes": size}, _read_notices(notices)


def _read_notices(notices: Any) -> list[dict[str, Any]]:
    """Return the notices that can be read; another version may write them differently."""
    found = []
    for notice in notices:
        try:
            tree = json.loads(notice)
        except ValueError:
            continue
        if isinstance(tree, dict) and tree.keys() >= _TOLD:
            found.append(tree)
    return sorted(found, key=lambda one: (str(one["host"]), str(one["pid"])))


def _certificate_findings(
    certificate: dict[str, Any] | None, own: Path | None, now: float
) -> list[Finding]:
    if certificate is None:
        return []
    file, begins, ends = certificate["file"], certificate["begins"], certificate["ends"]
    if file is None:  # whoever renews it says what is wrong
        problem = certificate["problem"]
        return [Finding("certificate", problem)] if problem else []
    is_own = own is not None and str(own) == file
    advice = (
        "run buildset-registry up, which makes a new one, and give the nodes the new facts"
        if is_own
        else "put the new one and its key in place; they are read within two seconds"
    )
    if ends is None:
        message = f"{file} holds no certificate that can be read; {advice}"
    elif begins > now:
        message = f"the certificate is good from {_date(begins)} on, by this clock; {advice}"
    elif ends <= now:
        message = f"the certificate ended on {_date(ends)}; {advice}"
    elif ends - now < _last_part((begins, ends), _OWN_DAYS if is_own else _GIVEN_DAYS):
        message = f"the certificate ends on {_date(ends)}; {advice}"
    else:
        return []
    return [Finding("certificate", message)]


def _storage_findings(storage: dict[str, Any] | None) -> list[Finding]:
    if storage is None:
        return []
    if storage["problem"]:
        return [
            Finding("storage", f"{storage['problem']}; pushes are refused until that is mended")
        ]
    free, size = storage["free_bytes"], storage["size_bytes"]
    if size and free < size * _LITTLE:
        message = (
            f"{100 * free // size} % of the disk are free; remove images, "
            "or set gc.untagged and gc.cache_size"
        )
        return [Finding("storage", message)]
    return []


def _replica_findings(processes: list[dict[str, Any]], now: float) -> list[Finding]:
    late = [one for one in processes if now - one["told"] > _LATE_NOTICE]
    found = [
        Finding(
            "replicas",
            f"process {one['pid']} of {one['host']} has told nothing since "
            f"{_date(one['told'])}; see whether it runs (what it told is forgotten after a day)",
        )
        for one in late
    ]
    versions = {str(one["version"]) for one in processes if one not in late}
    if len(versions) > 1:
        told = ", ".join(sorted(versions))
        found.append(Finding("replicas", f"they are of the versions {told}; finish the upgrade"))
    return found


def _collector_findings(processes: list[dict[str, Any]], now: float) -> list[Finding]:
    """Look at the collections of all processes as one: any of them collects for all."""
    told = [one["collector"] for one in processes]
    found = [
        Finding("collector", f"the last collection broke off: {one['error']}; see the log")
        for one in told
        if one["error"]
    ]
    broken = [one for one in told if one["problems"]]
    for one in broken[:1]:
        more = f" (and {one['broken'] - 1} more)" if one["broken"] > 1 else ""
        message = f"{one['problems'][0]}{more}; no blobs go: run buildset-registry verify"
        found.append(Finding("collector", message))
    intervals = [one["interval"] for one in told if one["interval"]]
    since = max((one["collector"]["ended"] or one["started"] for one in processes), default=now)
    if intervals and now - since > _LATE_INTERVALS * min(intervals):
        message = f"nothing was collected since {_date(since)}; see the log"
        found.append(Finding("collector", message))
    return found


def _rules_findings(processes: list[dict[str, Any]], now: float) -> list[Finding]:
    """Look whether all replicas have the same rules; another version may not tell it."""
    hosts: dict[str | None, set[str]] = {}
    for one in processes:
        if "retention" in one and now - one["told"] <= _LATE_NOTICE:
            hosts.setdefault(one["retention"], set()).add(str(one["host"]))
    if len(hosts) < 2:
        return []
    without = ", ".join(sorted(hosts.pop(None, ())))
    told = [" and ".join(sorted(some)) for some in hosts.values()]
    differ = f"differ: {'; '.join(sorted(told))}" if len(told) > 1 else f"are those of {told[0]}"
    more = f", and {without} has none" if without else ""
    message = (
        f"the settings of retention {differ}{more}; nothing is removed by rules until the "
        "configurations of all replicas have the same section retention: make them one, and "
        "restart the replicas"
    )
    return [Finding("retention", message)]


def _retention_findings(processes: list[dict[str, Any]]) -> list[Finding]:
    """Look at what the last collection told of the rules; another version may not tell it."""
    told = [one["collector"] for one in processes if one["collector"]["ended"]]
    last: dict[str, Any] = max(told, key=lambda one: float(one["ended"]), default={})
    return [Finding("retention", message) for message in last.get("attention", ())]


def _upstream_findings(processes: list[dict[str, Any]], now: float) -> list[Finding]:
    found = {}
    for one in processes:
        for name, limit in one["upstreams"].items():
            over = limit["window"] and now > limit["told"] + limit["window"]
            if limit["remaining"] < limit["limit"] * _LITTLE * 2 and not over:
                found[name] = (
                    f"{name} lets {limit['remaining']} of {limit['limit']} more pulls through; "
                    "set credentials for it, or a mirror"
                )
    return [Finding("upstreams", message) for _name, message in sorted(found.items())]


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
