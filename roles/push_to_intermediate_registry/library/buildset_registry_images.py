# Copyright: Contributors to the buildset.registry project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry images between a buildset's registry, the intermediate one and public ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buildset_registry_images
short_description: Carry images between buildset, intermediate and public registries
version_added: 0.1.0
description:
  - Copies images from registry to registry, by no other program than Python. No file is written.
  - It is what the roles P(buildset.registry.push_to_intermediate_registry#role),
    P(buildset.registry.pull_from_intermediate_registry#role) and
    P(buildset.registry.promote_container_image#role) do their work by, on Zuul's executor.
author:
  - The buildset.registry maintainers (@buildset-registry)
options:
  action:
    description:
      - V(push) copies O(images) from the buildset's registry to the intermediate one, each to a tag
        that begins with O(build).
      - V(pull) copies what O(artifacts) name to the buildset's registry, under the public names.
      - V(promote) copies O(images) to where they are published, as O(promotion) says.
      - V(overlay) copies nothing. It makes of O(artifacts) what C(buildset-registry overlay) is
        handed, with tokens for these images alone. With O(buildset_registry) it hands this over
        to that registry itself, by requests.
      - V(permit_push) and V(permit_pull) get tokens by which another host can do V(push) or V(pull)
        without the secret. V(confirm_push) makes RV(artifacts) of what that host has pushed.
    type: str
    choices: [push, pull, promote, overlay, permit_push, permit_pull, confirm_push]
    required: true
  images:
    description: The images, each with C(repository) and, where it is not C([latest]), C(tags).
    type: list
    elements: dict
    default: []
  images_variable:
    description: The name of the variable that O(images) come from, for messages.
    type: str
    default: images
  artifacts:
    description:
      - The artifacts of other builds, as Zuul hands them to a job. Those that are no container
        images are left alone.
    type: list
    elements: dict
    default: []
  build:
    description: The identifier of the build that pushes.
    type: str
    default: ""
  returned:
    description:
      - The artifacts that the build has returned to Zuul before. They are not in RV(artifacts).
    type: list
    elements: dict
    default: []
  seconds:
    description:
      - For how many seconds the tokens of O(action=overlay), O(action=permit_push) and
        O(action=permit_pull) are to live. A registry bounds it.
    type: int
    default: 86400
  permits:
    description: Tokens as RV(permits), for O(action=push) and O(action=pull) without the secret.
    type: list
    elements: dict
    default: []
    suboptions:
      token: {description: The token., type: str, required: true}
      images: {description: The images that it is for., type: list, elements: str, required: true}
  copied:
    description: For O(action=confirm_push), RV(images) as the host that has pushed returned them.
    type: list
    elements: dict
    default: []
  buildset_registry:
    description:
      - The facts of the buildset's registry, as returned by
        M(buildset.registry.buildset_registry).
    type: dict
    suboptions: &registry
      host:
        description: The name or address of the registry.
        type: str
        required: true
      port:
        description: The TCP port of the registry.
        type: int
      push_host:
        description: The name or address of the push endpoint, where it is another one.
        type: str
      push_port:
        description: The TCP port of the push endpoint, where it is another one.
        type: int
      username:
        description: The user name for HTTP basic authentication.
        type: str
      password:
        description: The password for HTTP basic authentication.
        type: str
      cert:
        description: The certificate in PEM format to verify the registry with.
        type: str
      address:
        description:
          - What to connect to where the host does not resolve or does not answer. The certificate
            is verified for the host all the same.
        type: str
  intermediate_registry:
    description: The intermediate registry.
    type: dict
    suboptions: *registry
  registries:
    description: The registries that images are published in.
    type: list
    elements: dict
    default: []
    suboptions:
      registry:
        description: How images name it.
        type: str
        required: true
      login:
        description: How it is used.
        type: dict
        suboptions:
          username:
            description: The user name.
            type: str
          password:
            description: The password.
            type: str
          cert:
            description: The certificate in PEM format to verify it with.
            type: str
          address:
            description: What to connect to where its name does not resolve.
            type: str
          repository:
            description: A regular expression that repositories have to match.
            type: str
  promotion:
    description: Which build's images are promoted, and how.
    type: dict
    suboptions:
      method:
        description:
          - V(tag) gives what has a tag that begins with O(promotion.prefix) its own tag.
            V(intermediate-registry) copies what a build has returned.
        type: str
        choices: [tag, intermediate-registry]
        default: tag
      prefix:
        description: What the tags of uploaded images begin with.
        type: str
        default: ""
      api:
        description: The URL of the tenant in Zuul's API.
        type: str
        default: ""
      job:
        description: The job that has built the images.
        type: str
        default: ""
      pipeline:
        description: The pipeline in which it has done so.
        type: str
        default: ""
      buildset:
        description: The buildset that the build is of.
        type: str
        default: ""
      change:
        description: The change that it was built for.
        type: str
        default: ""
      patchset:
        description: The patchset of that change.
        type: str
        default: ""
      newrev:
        description: The commit, where there is no change.
        type: str
        default: ""
extends_documentation_fragment:
  - buildset.registry.attributes
attributes:
  diff_mode:
    support: full
requirements:
  - Python 3.10 or newer where the module runs
notes:
  - What is returned holds no password. RV(overlay) and RV(permits) hold tokens, so use C(no_log).
seealso:
  - module: buildset.registry.buildset_registry
"""

EXAMPLES = r"""
- name: Push an image to where other buildsets find it
  buildset.registry.buildset_registry_images:
    action: push
    build: "{{ zuul.build }}"
    images:
      - repository: quay.io/org/app
        tags: [latest]
    buildset_registry: "{{ buildset_registry }}"
    intermediate_registry: "{{ intermediate_registry }}"
  delegate_to: localhost
  no_log: true
  register: pushed

- name: Pull what other builds have made
  buildset.registry.buildset_registry_images:
    action: pull
    artifacts: "{{ zuul.artifacts | default([]) }}"
    buildset_registry: "{{ buildset_registry }}"
    intermediate_registry: "{{ intermediate_registry }}"
  delegate_to: localhost
  no_log: true
"""

RETURN = r"""
images:
  description: The images that are where they are to be, whether or not they were before.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Repository and tag, as the job names them.
      type: str
      sample: quay.io/org/app:latest
    destination:
      description: Where the image is now.
      type: str
      sample: 192.0.2.1:5001/quay.io/org/app:latest
    digest:
      description: The digest of the manifest or index.
      type: str
      sample: sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865
    media_type:
      description: The media type of the manifest or index.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    platforms:
      description: The platforms of the image, where it says so.
      type: list
      elements: str
      sample: [linux/amd64, linux/arm64]
    referrers:
      description: The digests of signatures and the like that went along.
      type: list
      elements: str
    copied:
      description: Whether it was not there before.
      type: bool
artifacts:
  description: For O(action=push) and O(action=confirm_push), what is to be returned to Zuul.
  type: list
  elements: dict
  returned: always
overlay:
  description:
    - For O(action=overlay), what the registry is handed, in base64, with secrets. Empty where that
      is not possible, or where there is no image.
  type: str
  returned: when O(action=overlay)
permits:
  description:
    - Tokens for single images, if there are any and the intermediate registry issues such.
  type: list
  elements: dict
  returned: when O(action=permit_push) or O(action=permit_pull)
handed:
  description:
    - For O(action=overlay), whether the registry of O(buildset_registry) has taken the images.
  type: bool
  returned: when O(action=overlay)
reason:
  description: Why there are no tokens.
  type: str
  returned: when O(action=overlay), O(action=permit_push) or O(action=permit_pull)
bytes:
  description: What was transferred, in bytes.
  type: dict
  returned: always
  contains:
    moved:
      description: Bytes that were read from one registry and written to another.
      type: int
    mounted:
      description: Bytes that a registry took over from another repository of its own.
      type: int
    skipped:
      description: Bytes that were there already.
      type: int
lines:
  description: What was done, for people, a line for each image.
  type: list
  elements: str
  returned: always
errors:
  description: What could not be done, a line for each image.
  type: list
  elements: str
  returned: always
"""

import sys

from ansible.module_utils.basic import AnsibleModule

#: Of an older one, the working code would end with a trace when it is imported.
FITS = sys.version_info >= (3, 10)
if FITS:
    try:  # in a role's own folders
        from ansible.module_utils.buildset_images import carry, errors
    except ImportError:  # in a collection
        from ansible_collections.buildset.registry.plugins.module_utils.buildset_images import (
            carry,
            errors,
        )

REGISTRY = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int"},
    "push_host": {"type": "str"},
    "push_port": {"type": "int"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "cert": {"type": "str"},
    "address": {"type": "str"},
}
LOGIN = {
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "cert": {"type": "str"},
    "address": {"type": "str"},
    "repository": {"type": "str"},
}
PUBLIC = {
    "registry": {"type": "str", "required": True},
    "login": {"type": "dict", "options": LOGIN},
}
PERMIT = {
    "token": {"type": "str", "required": True, "no_log": True},
    "images": {"type": "list", "elements": "str", "required": True},
}
ACTIONS = ["push", "pull", "promote", "overlay", "permit_push", "permit_pull", "confirm_push"]
PROMOTION = {
    "method": {"type": "str", "choices": ["tag", "intermediate-registry"], "default": "tag"},
    "prefix": {"type": "str", "default": ""},
    "api": {"type": "str", "default": ""},
    "job": {"type": "str", "default": ""},
    "pipeline": {"type": "str", "default": ""},
    "buildset": {"type": "str", "default": ""},
    "change": {"type": "str", "default": ""},
    "patchset": {"type": "str", "default": ""},
    "newrev": {"type": "str", "default": ""},
}
ARGUMENTS = {
    "action": {"type": "str", "choices": ACTIONS, "required": True},
    "images": {"type": "list", "elements": "dict", "default": []},
    "images_variable": {"type": "str", "default": "images"},
    "artifacts": {"type": "list", "elements": "dict", "default": []},
    "build": {"type": "str", "default": ""},
    "returned": {"type": "list", "elements": "dict", "default": []},
    "seconds": {"type": "int", "default": 86400},
    "permits": {"type": "list", "elements": "dict", "default": [], "options": PERMIT},
    "copied": {"type": "list", "elements": "dict", "default": []},
    "buildset_registry": {"type": "dict", "options": REGISTRY},
    "intermediate_registry": {"type": "dict", "options": REGISTRY},
    "registries": {"type": "list", "elements": "dict", "default": [], "options": PUBLIC},
    "promotion": {"type": "dict", "options": PROMOTION},
}


def main() -> None:
    """Do it and tell what came of it."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[("action", "promote", ["promotion"])],
        supports_check_mode=True,
    )
    if not FITS:
        version = ".".join(map(str, sys.version_info[:3]))
        hint = "set ansible_python_interpreter of the host to a newer one"
        module.fail_json(msg=f"Python {version} runs this module, which needs 3.10; {hint}")
    try:
        result = carry.work(module.params, carry.CarryOptions(dry=module.check_mode))
    except errors.ImagesError as error:
        result = carry.nothing(str(error))
    except Exception as error:  # or its words, with a password in them, would be all that is told
        result = carry.nothing(errors.unexpected(error))
    if result["errors"]:
        module.fail_json(msg="; ".join(result["errors"]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
