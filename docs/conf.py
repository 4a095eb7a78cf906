"""Configuration of the site: `make docs` runs Sphinx over the Markdown files, which GitHub shows as they are."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from simcse_lit import __version__

project = "simcse-lit"
version = release = __version__
copyright = "the simcse-lit authors"

# The root of the repository is the source folder, so that a link means the same here and on GitHub.
extensions = [
    "myst_nb",
    "sphinx_external_toc",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
include_patterns = [
    "docs/**",
    "experiments/*/README.md",
    "examples/*/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
external_toc_path = "docs/toc.yml"
html_additional_pages = {"index": "redirect.html"}  # the home page is docs/index.html

myst_enable_extensions = ["dollarmath", "attrs_block"]
myst_heading_anchors = 4  # the anchors that GitHub makes
nb_execution_mode = "off"  # the outputs are in the notebooks; tests/docs runs them
nb_merge_streams = True
nb_render_markdown_format = "myst"  # a table that a cell shows is a table

# Docstrings are Google style; a single backtick is code.
default_role = "code"
maximum_signature_line_length = 80  # a longer one has a line for each parameter
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"simcse-lit {version}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
html_show_sphinx = False


def inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write MathML, which browsers draw without a script."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line."""
    self.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
