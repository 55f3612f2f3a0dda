"""How Sphinx builds these pages: ``sphinx-build -W --keep-going -b html docs docs/_build``. It asks no network."""

from importlib.metadata import version as installed_version

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "bvae"
author = "The bvae developers"
copyright = "2026, The bvae developers"
release = version = installed_version("bvae-cli")

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "measured"]
html_theme = "furo"
html_title = f"bvae {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
nitpicky = True


def _math(self, node):
    """Write a formula as MathML, which browsers show by themselves: no script is fetched when a page is read."""
    block = node.tagname == "math_block"
    formula = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{formula}</div>' if block else formula)
    if block:
        self.body.append("\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
