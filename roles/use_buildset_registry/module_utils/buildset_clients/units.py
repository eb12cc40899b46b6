# SPDX-License-Identifier: Apache-2.0
"""The unit of systemd, or the service of OpenRC, that starts a daemon: what it gives the daemon.

systemd.unit(5): of the folders the first one with the unit's file counts; drop-ins are read in the
order of their names, whatever their folder, and one of a name once. A key that is assigned nothing
forgets what it had. A daemon that does not run, as one that a socket starts, is known by these
files alone. OpenRC's openrc-run(8) sources a file of shell, as k3s's service does one of its own.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import files
from .edits import TEXT, Edit, Rewrite, own
from .errors import ClientError
from .node import ManagedNode

_FILE = "buildset-registry.env"
#: Sorts after the drop-ins that people have: http-proxy.conf, proxy.conf.
_DROP_IN = "zz-buildset-registry.conf"
_SYSTEM = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_USER = ("/etc/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user")
#: The environment that systemd gives all units.
_MANAGER = ("/etc/systemd/system.conf", "/etc/systemd/user.conf")
#: Files of variables that services have without a unit that names them, or by a pattern.
_USUAL = (
    "/etc/default/{0}",
    "/etc/sysconfig/{0}",
    "/etc/conf.d/{0}",
    "/etc/systemd/system/{0}.service.env",
    "/etc/rancher/{0}/{0}.env",
)
_OPTIONS = re.compile(r"^(?:\w+_opts|opts|options|command_args)$", re.IGNORECASE)
_VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")


@dataclass(frozen=True)
class Unit:
    """One unit by its name, of the system or of the ordinary user who does the work."""

    node: ManagedNode
    program: str
    name: str
    prefix: str = ""
    """The beginning of variables that the daemon gives, without it, to one which it starts."""

    @classmethod
    def find(cls, node: ManagedNode, program: str, *names: str, prefix: str = "") -> Unit:
        """Find the one that the node has, of names by which a daemon may be known."""
        found = [cls(node, program, name, prefix) for name in names]
        return next((one for one in found if one.is_there), found[0])

    @property
    def is_there(self) -> bool:
        """Whether the node has it."""
        return bool(self._main) or self.is_openrc

    @property
    def is_openrc(self) -> bool:
        """Whether OpenRC starts it."""
        script = _text(self.node, f"/etc/init.d/{self.name}")
        return "openrc-run" in script.partition("\n")[0]

    @property
    def files(self) -> list[str]:
        """Its files less ours, and those that they name, in the order in which they count."""
        found = [*self._manager, *self._main, *self._drop_ins]
        named = [name.lstrip("-") for name in self._assigned("EnvironmentFile")]
        usual = [pattern.format(self.name) for pattern in _USUAL] if self.node.is_root else []
        return list(dict.fromkeys([*found, *named, *usual]))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it gives the daemon; those of the files that are named count last."""
        units = [*self._manager, *self._main, *self._drop_ins]
        found = assigned([*self._assigned("DefaultEnvironment"), *self._assigned("Environment")])
        for path in (path for path in self.files if path not in units):
            found.update(variables(self.node, path))
        return found

    @property
    def arguments(self) -> list[str]:
        """The arguments of the daemon that runs, or with which it will be started."""
        running = self.node.processes(self.program)
        return next(iter(running.values())) if running else self.configured

    @property
    def configured(self) -> list[str]:
        """The arguments with which it starts the daemon, or a script around that."""
        given = self.environment
        words = self._assigned("ExecStart")
        if not words:
            texts = [given[name] for name in filter(_OPTIONS.match, given)]
            return [word for text in texts for word in _split(text)]
        expanded = [word for one in words for word in _expanded(one, given)]
        names = [word.rpartition("/")[2] for word in expanded]
        return expanded[names.index(self.program) + 1 if self.program in names else 1 :]

    def give(self, client: str, content: str, secret: bool = False) -> list[Edit]:
        """Give the daemon variables, which may hold a password."""
        path = self.variables_file(client)
        mode = 0o600 if secret else 0o644
        made = [own(client, path, content.encode(), mode=mode, secret=secret, action="restart")]
        if self.is_openrc and not self._main:
            rewrite = appending(f"set -a; . {path}; set +a")
            return [
                *made,
                Edit(client, f"/etc/conf.d/{self.name}", TEXT, rewrite, action="restart"),
            ]
        drop_in = f"[Service]\nEnvironmentFile={path}\n".encode()
        folder = f"{self._folders[0]}/{self.name}.service.d"
        return [*made, own(client, f"{folder}/{_DROP_IN}", drop_in, action="restart")]

    def variables_file(self, client: str) -> str:
        """Tell the file of the variables that it is given."""
        home = "/etc" if self.node.is_root else f"{self.node.me.home}/.config"
        return f"{home}/{client}/{_FILE}"

    @property
    def _folders(self) -> tuple[str, ...]:
        own_folder = f"{self.node.me.home}/.config/systemd/user"
        return _SYSTEM if self.node.is_root else (own_folder, *_USER)

    @property
    def _manager(self) -> list[str]:
        main = _MANAGER[0 if self.node.is_root else 1]
        drop_ins = sorted(self.node.real(f"{main}.d").glob("*.conf"))
        return [main, *(f"{main}.d/{path.name}" for path in drop_ins)]

    @property
    def _main(self) -> list[str]:
        paths = [f"{folder}/{self.name}.service" for folder in self._folders]
        return [path for path in paths if self.node.exists(path)][:1]

    @property
    def _drop_ins(self) -> list[str]:
        found: dict[str, str] = {}
        for kind in (f"{self.name}.service.d", "service.d"):
            for folder in (f"{one}/{kind}" for one in self._folders):
                for path in self.node.real(folder).glob("*.conf"):
                    found.setdefault(path.name, f"{folder}/{path.name}")
        return [found[name] for name in sorted(found) if name != _DROP_IN]

    def _assigned(self, key: str) -> list[str]:
        """Return the words that its files assign to a key."""
        words: list[str] = []
        for path in [*self._manager, *self._main, *self._drop_ins]:
            for line in _lines(self.node, path):
                name, separator, value = line.partition("=")
                if separator and name.strip() == key:
                    words = [*words, *_split(value)] if value.strip() else []
        return [re.sub(r"%([a-zA-Z%])", self._specified, word) for word in words]

    def _specified(self, found: re.Match[str]) -> str:
        """Return what a specifier of systemd.unit(5) stands for, which is a path or a name here."""
        home = self.node.me.home
        runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{self.node.me.uid}"
        places = {"E": "/etc", "t": "/run"}
        if not self.node.is_root:
            places = {"E": f"{home}/.config", "t": runtime}
        names = {"N": self.name, "p": self.name, "n": f"{self.name}.service", "%": "%", "h": home}
        return {**places, **names}.get(found.group(1), found.group())


def whole(path: str, program: str, option: str) -> str:
    """Refuse a file that a daemon's command line names from where the daemon happens to be."""
    if not path.startswith("/"):
        hint = "give the whole path there"
        raise ClientError(f"{program} runs with --{option} {path}; {hint}")
    return path


def appending(line: str) -> Rewrite:
    """Return what adds a line at the end of a file."""

    def rewrite(before: bytes | None) -> bytes:
        content = before or b""
        end = b"" if content.endswith(b"\n") or not content else b"\n"
        return content + end + line.encode() + b"\n"

    return rewrite


def variables(node: ManagedNode, path: str) -> dict[str, str]:
    """Read a file of variables, as a shell or systemd does; empty where there is none."""
    return assigned(_lines(node, path))


def assigned(lines: Iterable[str]) -> dict[str, str]:
    """Return the variables that lines of such a file assign; the last word counts."""
    pairs = [re.sub(r"^export\s+", "", line.strip()) for line in lines]
    parts = [pair.partition("=") for pair in pairs if re.match(r"\w+=", pair)]
    return {name: value.strip().strip("\"'") for name, _separator, value in parts}


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _expanded(word: str, given: Mapping[str, str]) -> list[str]:
    """Return what systemd makes of a word: a variable by itself is several."""
    found = _VARIABLE.match(word)
    if not found:
        return [word]
    value = given.get(found.group(1) or found.group(2), "")
    return [value] if found.group(1) else _split(value)


def first_with(node: ManagedNode, paths: Iterable[str], variable: str) -> str:
    """Find the file that sets a variable, in letters of either case."""
    pattern = re.compile(rf"(?i)(?:\b|_){variable}=")
    return next((path for path in paths if pattern.search(_text(node, path))), "")


def _lines(node: ManagedNode, path: str) -> list[str]:
    """Return the lines of a file; one that ends with a backslash goes on in the next."""
    return re.sub(r"\\\n", " ", _text(node, path)).splitlines()


def _text(node: ManagedNode, path: str) -> str:
    real = node.real(path)
    is_readable = os.access(real, os.R_OK) and real.is_file()
    return ((files.read(real) or b"") if is_readable else b"").decode("utf-8", "replace")
