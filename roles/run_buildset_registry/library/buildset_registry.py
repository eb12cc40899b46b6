# Copyright: Contributors to the buildset.registry project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start or stop a buildset registry by its own command."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildset_registry
short_description: Start or stop a buildset registry
version_added: 0.1.0
description:
  - Starts a container registry on the node, makes its certificate and credentials, and returns
    the facts that other tasks, nodes and jobs need to use it.
  - It runs the C(buildset-registry) command, which has to be installed. The role
    P(buildset.registry.install_buildset_registry#role) does that.
author:
  - The buildset.registry maintainers (@buildset-registry)
options:
  state:
    description:
      - V(started) makes the certificate, the credentials and the configuration where there are
        none, starts the registry and waits until it answers. A registry that runs with the same
        options is left alone.
      - V(stopped) stops it and keeps its data.
      - V(absent) stops it and removes O(root).
    type: str
    choices: [started, stopped, absent]
    default: started
  host:
    description:
      - The name or address by which other nodes reach the registry.
      - By default the address of the default route.
    type: str
  port:
    description: The TCP port of the pull endpoint; V(5000) by default.
    type: int
  push_port:
    description: The TCP port of the push endpoint; V(5001) by default.
    type: int
  single_port:
    description:
      - Whether one endpoint on O(port) serves both. Then writes need the credentials there.
    type: bool
    default: false
  proxy_port:
    description:
      - The TCP port of an HTTPS proxy for docker, through which docker gets the registry's images
        by the names of all O(upstreams) but Docker Hub. Without it there is no such proxy.
    type: int
  alias:
    description:
      - Another name that the certificate is valid for; V(zuul-jobs.buildset-registry) by default.
    type: str
  upstreams:
    description:
      - The registries that images are pulled through from.
      - By default docker.io, quay.io and other well-known ones. From an empty list, none are.
    type: list
    elements: dict
    suboptions:
      name:
        description: How images name it, such as V(quay.io).
        type: str
        required: true
      url:
        description: Where its API is. V(http://) has to be said.
        type: str
        required: true
      ca:
        description:
          - The path of a PEM file on the node to verify it with, instead of the system's
            certificates.
        type: path
      username:
        description: The user name that the registry itself uses there.
        type: str
      password:
        description: The password for O(upstreams[].username).
        type: str
      public:
        description:
          - Whether everybody who may pull from the registry may see what these credentials can see.
        type: bool
      mirror:
        description: The URL of a mirror that is asked first.
        type: str
  anonymous_pull:
    description: Whether images can be pulled without credentials.
    type: bool
    default: true
  allowed_networks:
    description:
      - The networks that may use the registry, in CIDR notation. By default every network may.
    type: list
    elements: str
  tag_seconds:
    description:
      - For how many seconds a tag that was pulled through holds before upstream is asked about it
        again; V(0) asks for each pull, V(forever) never.
    type: str
    default: forever
  lock:
    description:
      - The path on the node of a lock of images, as C(buildset-registry lock) writes it. Its tags
        have the digests that it says, whatever upstreams say.
      - With O(lock_content), only the name that messages call it by.
      - Images that upstreams have no more are told by a warning.
    type: path
  lock_content:
    description: The content of the lock in base64, where the node has no file of it.
    type: str
  lock_mode:
    description:
      - Whether upstreams are asked about tags that O(lock) does not list. V(strict) refuses them,
        and needs a lock.
    type: str
    choices: [prefer, strict]
    default: prefer
  settings:
    description:
      - Sections of the configuration as they are to be, by their names. Each replaces the one
        that is there. One that is null is as by default again, and one that is V(false) is none,
        such as C(ledger).
      - A key that they have counts more than the option for it, such as O(allowed_networks). Ports
        of endpoints are those of the options.
      - The values of keys that name a secret are masked in the result.
    type: dict
  users:
    description:
      - The users who may log in besides the registry's own one. By default those that are there
        stay.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the user.
        type: str
        required: true
      password:
        description: The password, of at most 72 bytes.
        type: str
        required: true
  token_key:
    description:
      - The key that signs tokens in base64, which replicas share. By default each has its own.
    type: str
  log_dir:
    description: The folder of the log; C(log) below O(root) by default.
    type: path
  supervisor:
    description:
      - What keeps the registry running. V(systemd) takes a unit, V(process) a background process,
        V(auto) a unit where systemd runs the host and the user is root.
    type: str
    choices: [auto, systemd, process]
    default: auto
attributes:
  diff_mode:
    details: The files hold secrets.
extends_documentation_fragment:
  - buildset.registry.attributes
  - buildset.registry.command
notes:
  - The result holds the password of the registry. Set C(no_log) to V(true) on the task. Where that
    is missing, the module masks the password in its result, with a warning.
requirements:
  - buildset-registry
seealso:
  - module: buildset.registry.buildset_registry_info
"""

EXAMPLES = r"""
- name: Start a registry
  buildset.registry.buildset_registry:
  no_log: true
  register: result

- name: Keep its facts for later tasks
  ansible.builtin.set_fact:
    buildset_registry: "{{ result.buildset_registry }}"
  no_log: true

- name: Start a registry that pulls through from a private one
  buildset.registry.buildset_registry:
    root: /srv/registry
    upstreams:
      - name: docker.io
        url: https://registry-1.docker.io
      - name: registry.example.com
        url: https://registry.example.com
        username: ci
        password: "{{ registry_password }}"
  no_log: true

- name: Stop the registry and keep its images
  buildset.registry.buildset_registry:
    state: stopped

- name: Remove the registry with its images
  buildset.registry.buildset_registry:
    state: absent
"""

RETURN = r"""
buildset_registry:
  description:
    - How to use the registry.
    - V(null) in check mode where there is no registry yet.
  type: dict
  returned: when O(state=started)
  contains:
    host:
      description: The name or address of the pull endpoint.
      type: str
      sample: 203.0.113.7
    port:
      description: The TCP port of the pull endpoint.
      type: int
      sample: 5000
    push_host:
      description: The name or address of the push endpoint.
      type: str
      sample: 203.0.113.7
    push_port:
      description: The TCP port of the push endpoint.
      type: int
      sample: 5001
    proxy_port:
      description: The TCP port of the HTTPS proxy for docker.
      type: int
      returned: when O(proxy_port) is set
      sample: 5002
    username:
      description: The user name for HTTP basic authentication.
      type: str
      sample: buildset
    password:
      description: The password for HTTP basic authentication.
      type: str
      sample: VALUE_SPECIFIED_IN_NO_LOG_PARAMETER
    cert:
      description:
        - The certificate in PEM format that verifies both endpoints.
        - V(null) where an authority issues the registry's, or a proxy ends TLS.
      type: str
      sample: "-----BEGIN CERTIFICATE-----..."
changes:
  description: What was changed, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [certificate, credentials, configuration, started]
log:
  description: The path of the registry's log.
  type: str
  returned: where there is one
  sample: /var/lib/buildset-registry/log/registry.log
"""

import base64
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

try:  # in a role's own folders
    from ansible.module_utils.buildset_command import command
except ImportError:  # in a collection
    from ansible_collections.buildset.registry.plugins.module_utils.buildset_command import command


#: Words in the names of settings whose values nobody is to see.
SECRETS = ("password", "secret", "token", "headers", "accesskey", "accountkey", "hmac")


def root_folder(params: dict) -> Path:
    """Tell the registry's folder, which is the command's own choice where none is given."""
    if params["root"]:
        return Path(params["root"])
    if os.getuid() == 0:
        return Path("/var/lib/buildset-registry")
    data = os.environ.get("XDG_DATA_HOME") or next(
        (str(one / ".local/share") for one in command.home()), ""
    )
    if not data:
        raise command.CommandError("this user has no home; set the option root, or HOME")
    return Path(data) / "buildset-registry"


def log(params: dict) -> dict:
    """Tell where the log is, if there is one."""
    path = Path(params["log_dir"] or root_folder(params) / "log") / "registry.log"
    return {"log": str(path)} if path.exists() else {}


def up_arguments(params: dict) -> list:
    """Turn the module's options into the command's."""
    arguments = ["up", "--json", "--report", "--supervisor", params["supervisor"]]
    for name in ("host", "port", "push_port", "alias", "log_dir"):
        if params[name]:
            arguments += ["--" + name.replace("_", "-"), str(params[name])]
    arguments.append("--single-port" if params["single_port"] else "--no-single-port")
    arguments += [word for words in further_arguments(params) for word in words]
    # By standard input: what is on a command line can be read by every user of the node.
    if sections(params):
        arguments += ["--settings-file", "-"]
    elif params["upstreams"] is not None:
        arguments += ["--upstreams-file", "-"]
    return arguments


def further_arguments(params: dict) -> Iterator[list]:
    """Yield options of the command; not those for which the settings have a key, which counts."""
    if not said(params, "auth", "anonymous_pull"):
        yield ["--anonymous-pull" if params["anonymous_pull"] else "--no-anonymous-pull"]
    if not said(params, "auth", "allowed_networks"):
        networks = params["allowed_networks"]
        yield ["--allow-any-network"] if networks == [] else []
        yield from (["--allow-network", network] for network in networks or [])
    if not said(params, "pull_through", "tag_seconds"):
        yield ["--tag-seconds", params["tag_seconds"]]
    if not said(params, "proxy", "port"):
        port = params["proxy_port"]
        yield ["--proxy-port", str(port)] if port else ["--no-proxy"]
    if params["lock"]:
        yield ["--lock-mode", params["lock_mode"]]
    elif not said(params, "lock", "file"):
        yield ["--no-lock"]


def said(params: dict, section: str, key: str) -> bool:
    """Tell whether the settings have a key of a section."""
    given = (params["settings"] or {}).get(section)
    return isinstance(given, dict) and key in given


def upstreams(params: dict) -> list | None:
    """Tell the upstreams as the command reads them; none of them is not the same as not said."""
    if params["upstreams"] is None:
        return None
    given = params["upstreams"]
    return [{key: value for key, value in one.items() if value is not None} for one in given]


def sections(params: dict) -> dict:
    """Tell the sections of the configuration, the users and the key as the command reads them."""
    told = dict(params["settings"] or {})
    for name in ("users", "token_key"):
        if params[name] is not None:
            told[name] = params[name]
    given = upstreams(params)
    return {"upstreams": given, **told} if told and given is not None else told


def secrets_in(tree: object, hidden: bool = False) -> Iterator[str]:
    """Yield the values of a section that nobody is to see."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from secrets_in(value, hidden or any(word in str(key) for word in SECRETS))
    elif isinstance(tree, list):
        for value in tree:
            yield from secrets_in(value, hidden)
    elif hidden and isinstance(tree, str):
        yield tree


@contextlib.contextmanager
def lock_arguments(params: dict) -> Iterator[list]:
    """Turn the lock into the command's option; one that is only here gets a file for a moment."""
    if not params["lock"]:
        if params["lock_mode"] == "strict":
            hint = "name the lock, or take another mode"
            raise command.CommandError(f"lock_mode is strict, and there is no lock; {hint}")
        yield []
    elif params["lock_content"] is None:
        yield ["--lock", params["lock"]]
    else:
        try:
            content = base64.b64decode(params["lock_content"], validate=True)
        except ValueError as error:
            hint = "use the filter b64encode"
            raise command.CommandError(f"lock_content is not base64; {hint}") from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(params["lock"]).name)
            file.write_bytes(content)
            yield ["--lock", str(file)]


def start(module: AnsibleModule) -> dict:
    """Start the registry and return its facts."""
    if module.check_mode and command.find(module) is None:
        return {"changed": True, "changes": ["started"], "buildset_registry": None}
    module.no_log_values.update(secrets_in(module.params["settings"]))
    arguments = up_arguments(module.params) + (["--check"] if module.check_mode else [])
    with lock_arguments(module.params) as more:
        told = sections(module.params) or upstreams(module.params)
        data = None if told is None else json.dumps(told)
        report = command.run(module, arguments + more, data)
    for warning in report.get("warnings", []):
        module.warn(warning)
    facts = report["facts"]
    command.mask_password(module, facts)
    result = {"changed": report["changed"], "changes": report["changes"], **log(module.params)}
    return {**result, "buildset_registry": facts}


def stop(module: AnsibleModule, purge: bool) -> dict:
    """Stop the registry, and remove it with its data if told so."""
    root = root_folder(module.params)
    if not root.exists() and command.find(module) is None:
        return {"changed": False, "changes": []}
    if module.check_mode:
        running = command.status(module)["running"]
        changed = running or (purge and root.exists())
    else:
        arguments = ["down", "--json", *(["--purge"] if purge else [])]
        changed = command.run(module, arguments)["changed"]
    return {"changed": changed, "changes": ["removed" if purge else "stopped"] if changed else []}


def main() -> None:
    """Read the options and do what state says."""
    upstream = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "ca": {"type": "path"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "public": {"type": "bool"},
        "mirror": {"type": "str"},
    }
    user = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            **command.ARGUMENTS,
            "state": {
                "type": "str",
                "choices": ["started", "stopped", "absent"],
                "default": "started",
            },
            "host": {"type": "str"},
            "port": {"type": "int"},
            "push_port": {"type": "int"},
            "single_port": {"type": "bool", "default": False},
            "proxy_port": {"type": "int"},
            "alias": {"type": "str"},
            "upstreams": {"type": "list", "elements": "dict", "options": upstream},
            "anonymous_pull": {"type": "bool", "default": True},
            "allowed_networks": {"type": "list", "elements": "str"},
            "tag_seconds": {"type": "str", "default": "forever"},
            "lock": {"type": "path"},
            "lock_content": {"type": "str"},
            "lock_mode": {"type": "str", "choices": ["prefer", "strict"], "default": "prefer"},
            "settings": {"type": "dict"},
            "users": {"type": "list", "elements": "dict", "options": user},
            "token_key": {"type": "str", "no_log": True},
            "log_dir": {"type": "path"},
            "supervisor": {
                "type": "str",
                "choices": ["auto", "systemd", "process"],
                "default": "auto",
            },
        },
        required_by={"lock_content": ["lock"]},
        supports_check_mode=True,
    )
    with command.one_line(module):
        try:
            if module.params["state"] == "started":
                result = start(module)
            else:
                result = stop(module, purge=module.params["state"] == "absent")
        except command.CommandError as error:
            found = log(module.params) if command.home() else {}
            module.fail_json(msg=str(error), **error.result, **found)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
