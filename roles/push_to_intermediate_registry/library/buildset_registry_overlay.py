# Copyright: Contributors to the buildset.registry project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand images of other builds to the registry of a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildset_registry_overlay
short_description: Have a registry serve images of other builds without copying them
version_added: 0.1.0
description:
  - Hands the registry that runs on the node a map from names to images of other builds. It fetches
    these from the registry that holds them when somebody pulls them.
  - It is what the role P(buildset.registry.pull_from_intermediate_registry#role) does on the node
    of the buildset's registry.
author:
  - The buildset.registry maintainers (@buildset-registry)
options:
  content:
    description:
      - What is handed over, as RV(buildset.registry.buildset_registry_images#module:overlay) of
        M(buildset.registry.buildset_registry_images), which is in base64. It holds tokens, and
        goes to the program's standard input.
    type: str
    required: true
  root:
    description:
      - The folder of the registry.
      - By default that of the user who runs the module.
    type: path
  command:
    description:
      - The program.
      - By default the one that the role P(buildset.registry.install_buildset_registry#role)
        installs, for root or for the user who runs the module.
    type: path
extends_documentation_fragment:
  - buildset.registry.attributes
notes:
  - Each image is asked for before anything is changed. Where one is not to be had from the node,
    the module fails, and the message says which ones and why.
seealso:
  - module: buildset.registry.buildset_registry_images
"""

EXAMPLES = r"""
- name: Make what is handed over
  buildset.registry.buildset_registry_images:
    action: overlay
    artifacts: "{{ zuul.artifacts | default([]) }}"
    intermediate_registry: "{{ intermediate_registry }}"
  delegate_to: localhost
  no_log: true
  register: made

- name: Have the images served
  buildset.registry.buildset_registry_overlay:
    content: "{{ made.overlay }}"
"""

RETURN = r"""
images:
  description: The names that the registry has been handed.
  type: list
  elements: str
  returned: success
  sample: ["quay.io/org/app:latest"]
"""

import base64
import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "content": {"type": "str", "required": True, "no_log": True},
    "root": {"type": "path"},
    "command": {"type": "path"},
}
#: Where the role that installs the program puts it.
USUAL = "/opt/buildset-registry/bin/buildset-registry"


def home_place() -> str:
    """Return where it puts it for an ordinary user."""
    return str(Path.home() / ".local/lib/buildset-registry/bin/buildset-registry")


def find_program(module: AnsibleModule) -> str:
    """Return the program's path."""
    places = [module.params["command"]] if module.params["command"] else [USUAL, home_place()]
    for place in places:
        if os.access(place, os.X_OK):
            return place
    where = " or ".join(places)
    module.fail_json(msg=f"there is no program in {where}; run the role install_buildset_registry")
    raise AssertionError("fail_json ends the process")


def hand_over(module: AnsibleModule) -> list[str]:
    """Run the program; what it says of an image that is not to be had is the message."""
    words = [find_program(module), "overlay", "-", "--json"]
    if module.params["root"]:
        words += ["--root", module.params["root"]]
    try:
        content = base64.b64decode(module.params["content"], validate=True)
    except ValueError:
        module.fail_json(
            msg="content is not base64; take it as buildset_registry_images returns it"
        )
    code, output, errors = module.run_command(words, data=content, binary_data=True)
    lines = [line.partition("buildset-registry: ")[2] or line for line in errors.splitlines()]
    if code != 0:
        module.fail_json(msg="; ".join(lines) or f"the program ended with code {code}")
    return [image["name"] for image in json.loads(output)["images"]]


def main() -> None:
    """Hand over; in check mode see that there is a program to do it."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if module.check_mode:
        find_program(module)
        module.exit_json(changed=True, images=[])
    module.exit_json(changed=True, images=hand_over(module))


if __name__ == "__main__":
    main()
