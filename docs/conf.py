# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation: ``make docs``."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

project = "buildset.registry"
author = "The buildset.registry contributors"
extensions = ["sphinx_antsibull_ext"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["tables.css"]
nitpicky = True
#: Pages of a whole collection's documentation, beside the modules' own; not wanted here. What is in
#: docsite is for docs.ansible.com.
exclude_patterns = [
    "modules/index.rst",
    "modules/environment_variables.rst",
    "modules/docsite",
    "docsite",
]

#: How the roles' READMEs refer to each other, so that a forge follows it.
README = re.compile(r"\.\./(\w+)/README\.rst")


def lead_to_sections(_app: Sphinx, doctree: nodes.document) -> None:
    """Let references between the roles' READMEs lead to the sections that these are here."""
    for reference in doctree.findall(nodes.reference):
        readme = README.fullmatch(reference.get("refuri", ""))
        if readme:
            reference["refuri"] = f"#{nodes.make_id(readme.group(1))}"


def setup(app: Sphinx) -> None:
    """Register the step above."""
    app.connect("doctree-read", lead_to_sections)
