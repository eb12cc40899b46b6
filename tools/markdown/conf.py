# SPDX-License-Identifier: Apache-2.0
"""How Sphinx turns the README.rst files into the Markdown that Galaxy wants: ``tools/stage.py``."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

extensions = ["sphinx_markdown_builder"]
root_doc = "README"
#: ansible-test wants ASCII quotes.
smartquotes = False
#: Each README is built in a folder by itself; its picture is where the README will be.
suppress_warnings = ["image.not_readable"]


def join_lines(_app: Sphinx, doctree: nodes.document, _name: str) -> None:
    """Make one line of each paragraph in a table; the builder would keep the source's lines."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(text.replace("\n", " ")))


def setup(app: Sphinx) -> None:
    """Register the step above."""
    app.connect("doctree-resolved", join_lines)
