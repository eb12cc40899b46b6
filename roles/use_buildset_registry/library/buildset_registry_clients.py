# Copyright: Contributors to the buildset.registry project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the container tools of a node use a buildset registry, or undo that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildset_registry_clients
short_description: Make the container tools of a node use a buildset registry
version_added: 0.1.0
description:
  - Configures the container tools of a node so that they pull the images of a buildset by their
    public names, and has their daemons read the new configuration.
  - It is what the role P(buildset.registry.use_buildset_registry#role) does its work by.
author:
  - The buildset.registry maintainers (@buildset-registry)
options:
  state:
    description:
      - V(present) configures the clients. V(absent) makes every file what it was before.
    type: str
    choices: [present, absent]
    default: present
  registry:
    description:
      - The facts of a registry, as returned by M(buildset.registry.buildset_registry).
      - Required where O(state=present).
      - With O(registry.proxy_port), docker gets to every registry through the buildset registry,
        which takes a restart of its daemon.
  alias:
    description:
      - The name that stands for a host that is an address. docker and skopeo refuse IPv6 literals,
        and the roles of zuul-jobs push to the name in any case.
    type: str
    default: zuul-jobs.buildset-registry
  namespaces:
    description: The registries that it stands in for, each a list of a name and a URL.
    type: list
    elements: list
    default: []
  unqualified:
    description: The registries to look for an image in that is named without one.
    type: list
    elements: str
    default: []
  signature_policy:
    description:
      - What to do where a policy.json wants signatures of images of these registries, which those
        of a buildset have not.
      - V(keep) fails with the name of the file and what it says. V(relax) has the policy take any
        image of just these registries, until V(absent) makes it what it was.
    type: str
    choices: [keep, relax]
    default: keep
    version_added: 0.1.0
  users:
    description:
      - Users who are given the credentials, besides the one who does the work, if that is root.
      - A user that the node does not have is passed over.
    type: list
    elements: str
    default: []
  system_trust:
    description: Whether the system's store of certificates is to trust the registry.
    type: bool
    default: true
  canary:
    description:
      - Whether an image that exists nowhere else is pushed, pulled through every client that the
        node has, and removed again. BuildKit builds from it.
      - A client that does not get it fails the module, and the error names the layer at fault,
        which is the name, the network, TLS, the credentials, the configuration, or that the client
        has asked the public registry.
    type: bool
    default: false
  as_user:
    description:
      - Whether a user who is not root configures the own tools only, though the node has daemons of
        root's, such as dockerd. Otherwise that is an error, unless O(clients) names what to
        configure.
    type: bool
    default: false
  restart_commands:
    description: The commands that restart daemons that are no services, by client.
    type: dict
    default: {}
extends_documentation_fragment:
  - buildset.registry.attributes
  - buildset.registry.clients
  - buildset.registry.facts
notes:
  - What is returned holds no password.
seealso:
  - module: buildset.registry.buildset_registry
"""

EXAMPLES = r"""
- name: Make the clients of this node use the registry of the buildset
  buildset.registry.buildset_registry_clients:
    registry: "{{ buildset_registry }}"
    namespaces:
      - [docker.io, "https://registry-1.docker.io"]
      - [quay.io, "https://quay.io"]
  no_log: true

- name: Undo it
  buildset.registry.buildset_registry_clients:
    state: absent
"""

RETURN = r"""
clients:
  description: The clients that are configured.
  type: list
  elements: str
  returned: success
  sample: [containers, docker, buildx]
tried:
  description:
    - The programs through which the canary was pulled. A client whose daemon does not answer is not
      tried; that is in RV(notes).
  type: list
  elements: str
  returned: success
  sample: [podman, skopeo, docker]
paths:
  description: The files that were changed, or would be.
  type: list
  elements: str
  returned: success
  sample: [/etc/docker/daemon.json]
difference:
  description:
    - What changed in them, in the lines of a unified diff. Of files with credentials only the name
      is given.
  type: list
  elements: str
  returned: success
  sample: ["--- (no file)", "+++ /etc/docker/daemon.json"]
notes:
  description: What needs a look, such as a daemon that has to be restarted by hand.
  type: list
  elements: str
  returned: success
  sample: []
"""

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

try:  # in a role's own folders
    from ansible.module_utils.buildset_clients import arguments, errors, main, masking, registry
except ImportError:  # in a collection
    from ansible_collections.buildset.registry.plugins.module_utils.buildset_clients import (
        arguments,
        errors,
        main,
        masking,
        registry,
    )

REGISTRY = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "push_host": {"type": "str"},
    "push_port": {"type": "int"},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "cert": {"type": "str", "required": True},
    "proxy_port": {"type": "int"},
}
ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "registry": {"type": "dict", "options": REGISTRY},
    "alias": {"type": "str", "default": "zuul-jobs.buildset-registry"},
    "namespaces": {"type": "list", "elements": "list", "default": []},
    "unqualified": {"type": "list", "elements": "str", "default": []},
    "signature_policy": {"type": "str", "choices": ["keep", "relax"], "default": "keep"},
    "users": {"type": "list", "elements": "str", "default": []},
    "clients": {"type": "list", "elements": "str", "default": [], "choices": main.NAMES},
    "system_trust": {"type": "bool", "default": True},
    "canary": {"type": "bool", "default": False},
    "as_user": {"type": "bool", "default": False},
    "restart_commands": {"type": "dict", "default": {}},
}


def run_module() -> None:
    """Do it and tell what changed."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[("state", "present", ["registry"])],
        supports_check_mode=True,
    )
    try:
        result = work(module.params, dry=module.check_mode)
    except errors.ClientError as error:
        module.fail_json(msg=masking.mask_logins(str(error)))
    except Exception as error:  # or its words, with a password in them, would be all that is told
        module.fail_json(msg=errors.unexpected(error))
    module.exit_json(**result)


def work(given: dict, dry: bool) -> dict:
    """Do what the options say; return what is told."""
    arguments.check(given)
    order = main.Order(
        users=given["users"],
        clients=given["clients"],
        store=given["system_trust"],
        commands=arguments.commands(given["restart_commands"]),
        as_user=given["as_user"],
        canary=given["canary"],
        dry=dry,
    )
    if given["state"] == "absent":
        return main.restore(order)
    named = (given["namespaces"], given["unqualified"])
    setup = registry.Setup.read(given["registry"], given["alias"], *named)
    return main.use(order, replace(setup, relaxed=given["signature_policy"] == "relax"))


if __name__ == "__main__":
    run_module()
