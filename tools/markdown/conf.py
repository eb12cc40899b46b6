# SPDX-License-Identifier: Apache-2.0
"""How Sphinx turns the README.rst files into the Markdown that Galaxy wants: ``tools/stage.py``."""

extensions = ["sphinx_markdown_builder"]
root_doc = "README"
#: ansible-test wants ASCII quotes.
smartquotes = False
