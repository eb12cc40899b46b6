# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation: ``make docs``."""

from __future__ import annotations

project = "buildset.registry"
author = "The buildset.registry contributors"
extensions = ["sphinx_antsibull_ext", "zuul_sphinx"]
html_theme = "furo"
html_title = project
nitpicky = True
#: Pages of a whole collection's documentation, beside the modules' own; not wanted here.
exclude_patterns = ["modules/index.rst", "modules/environment_variables.rst"]
