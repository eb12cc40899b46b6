# SPDX-License-Identifier: Apache-2.0
"""A registry as a unit of systemd: for root, where systemd runs the host."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from buildset_registry.config import Config
from buildset_registry.errors import ConfigError
from buildset_registry.files import write_file
from buildset_registry.instance.paths import InstancePaths, default_root, read_file
from buildset_registry.instance.probe import Probe

_UNITS = Path("/etc/systemd/system")
#: Ports below this need a right (capabilities(7), CAP_NET_BIND_SERVICE).
_UNPRIVILEGED = 1024
#: Seconds beyond ``limits.shutdown_seconds`` in which a registry closes what it has.
_CLOSING = 30

# systemd.exec(5). What is not confined: the network, which is what a registry is for, and writing
# to its own folder and its log's. MemoryDenyWriteExecute is left out: libffi, which Python's
# cryptography uses, may want such memory.
_UNIT = """\
[Unit]
Description=Buildset registry in {root}
Documentation=https://github.com/buildset/registry
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={python} -m buildset_registry serve --config {root}/config.yaml
# It reads its certificates again.
ExecReload=/bin/kill -HUP $MAINPID
{environment}StandardError=append:{root}/run/stderr
Restart=on-failure
RestartSec=1
# The configuration is wrong: starting again would not help.
RestartPreventExitStatus=2
TimeoutStopSec={stopping}
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
LockPersonality=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
ReadWritePaths={writable}
{images}RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def available() -> bool:
    """Tell whether this user may have a unit here (sd_booted(3))."""
    return os.getuid() == 0 and Path("/run/systemd/system").is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Ports and folders that a registry needs, besides its own folder."""

    ports: tuple[int, ...] = ()
    log: Path | None = None
    images: Path | None = None
    """A folder that is to be read wherever it is."""

    shutdown_seconds: int = 30
    """For how long running requests may go on; 0 is for ever."""

    writable: tuple[Path, ...] = ()
    """Folders that it writes to, in its own or elsewhere."""

    @classmethod
    def of(cls, config: Config, probe: Probe) -> Needs:
        """Return the needs of a configuration."""
        acme, ledger = config.acme, config.ledger
        listens = acme.port if acme is not None and acme.webroot is None else None
        folders = [config.storage if isinstance(config.storage, Path) else None]
        folders += [acme.folder, acme.webroot] if acme else []
        folders += [ledger.folder] if ledger else []
        return cls(
            ports=(*(end.port for end in probe.endpoints), *([listens] if listens else [])),
            log=config.log.file,
            images=config.lock.images if config.lock else None,
            shutdown_seconds=config.limits.shutdown_seconds,
            writable=tuple(folder for folder in folders if folder is not None),
        )


class SystemdSupervisor:
    """Starts and ends the unit of one registry."""

    name = "systemd"

    def __init__(
        self,
        paths: InstancePaths,
        needs: Needs | None = None,
    ) -> None:
        self._paths = paths
        self._needs = needs or Needs()
        self.unit = unit_name(paths)

    def pid(self) -> int | None:
        """Return the number of the unit's main process, or None where it does not run."""
        pid = _systemctl("show", "--property=MainPID", "--value", self.unit, check=False).strip()
        return int(pid) if pid.isdecimal() and pid != "0" else None

    def start(self) -> None:
        """Write the unit where it differs, and start it."""
        self._paths.last_words.unlink(missing_ok=True)
        path = _UNITS / self.unit
        text = unit_text(self._paths, self._needs)
        if read_file(path) != text:
            # Proxies in the environment may hold a password.
            write_file(path, text, 0o600)
            _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", self.unit)
        _systemctl("restart", self.unit)

    def stop(self, seconds: float) -> bool:
        """Stop the unit; systemd knows how long that may take. False where nothing ran."""
        if self.pid() is None:
            return False
        _systemctl("stop", self.unit)
        return True

    def remove(self) -> None:
        """Remove the unit."""
        path = _UNITS / self.unit
        if path.exists():
            _systemctl("disable", "--quiet", self.unit, check=False)
            path.unlink()
            _systemctl("daemon-reload")


def unit_name(paths: InstancePaths) -> str:
    """Return the unit's name: one for each folder, the plain one for the usual folder."""
    if paths.root == default_root():
        return "buildset-registry.service"
    return f"buildset-registry-{hashlib.sha256(bytes(paths.root)).hexdigest()[:8]}.service"


def unit_text(paths: InstancePaths, needs: Needs) -> str:
    """Return the unit file."""
    log, images, capabilities = needs.log, needs.images, []
    elsewhere = [path for path in needs.writable if not path.is_relative_to(paths.root)]
    writable = [paths.root, *elsewhere]
    if log is not None and not log.is_relative_to(paths.root):
        # A job's user owns the folder of the log: root alone may not be able to write there.
        writable.append(log.parent)
        capabilities.append("CAP_DAC_OVERRIDE")
    if any(port < _UNPRIVILEGED for port in needs.ports):
        capabilities.append("CAP_NET_BIND_SERVICE")
    return _UNIT.format(
        root=_quoted(paths.root),
        python=_quoted(Path(sys.executable)),
        environment="".join(_environment()),
        stopping=needs.shutdown_seconds + _CLOSING if needs.shutdown_seconds else "infinity",
        writable=" ".join(map(_quoted, writable)),
        capabilities=" ".join(capabilities),
        # A folder below /tmp is another one to the unit (PrivateTmp).
        images=f"BindReadOnlyPaths={_quoted(images)}\n" if images else "",
    )


def _environment() -> list[str]:
    """Return the lines that hand on the proxies of the command's environment."""
    names = [name for proxy in _PROXIES for name in (proxy, proxy.lower())]
    values = {name: os.environ[name] for name in names if os.environ.get(name)}
    return [
        'Environment="{}={}"\n'.format(name, value.replace("%", "%%").replace('"', '\\"'))
        for name, value in values.items()
    ]


def _quoted(path: Path) -> str:
    """Return a path as a unit file wants it (systemd.syntax(7), systemd.unit(5): specifiers)."""
    return str(path).replace("%", "%%").replace(" ", "\\x20")


def _systemctl(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["/usr/bin/env", "systemctl", *words], capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise ConfigError(
            f"systemctl {words[0]} failed: {reason}; see journalctl, or use --supervisor process"
        )
    return done.stdout
