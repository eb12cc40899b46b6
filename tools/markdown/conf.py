# SPDX-License-Identifier: Apache-2.0
"""How Sphinx turns the README.rst files into the Markdown that Galaxy wants: ``tools/stage.py``."""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

extensions = ["sphinx_markdown_builder", "zuul_sphinx"]
root_doc = "README"
#: ansible-test wants ASCII quotes.
smartquotes = False
#: The role READMEs refer to each other, each is built for itself here.
suppress_warnings = ["ref.role", "ref.rolevar"]


def spell_defaults_out(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Write a variable's default behind its name, which the Markdown builder would run together."""
    for part in list(doctree.findall(addnodes.desc_type)):
        literal = next(part.findall(nodes.literal), None)
        text = f" (default: {literal.astext()})" if literal is not None else f" {part.astext()}"
        part.replace_self(nodes.Text(text))


def setup(app: Sphinx) -> None:
    """Register the step above."""
    app.connect("doctree-resolved", spell_defaults_out)
