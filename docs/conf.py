"""The documentation's settings for Sphinx: `make docs`.

Pages are Markdown (MyST). Those of `docs/concepts` are executed when they are built, so that their numbers and their
inspectors come from the code beside them. Nothing on a page is asked of a network: it opens from `file://`.
"""

from __future__ import annotations

import os
import re
import sys
from logging import getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from tomllib import loads

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).parent
ROOT = HERE.parent
# For autodoc here, and for the kernels that execute pages: this checkout, and `inspector_frame`.
sys.path[:0] = [str(ROOT), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

# Kernels without the settings of whoever builds, and errors alone on the screen.
_PROFILE = TemporaryDirectory()
os.environ["IPYTHONDIR"] = _PROFILE.name
_SETTINGS = Path(_PROFILE.name, "profile_default", "ipython_kernel_config.py")
_SETTINGS.parent.mkdir()
_SETTINGS.write_text("c = get_config()\nc.IPKernelApp.log_level = 40\n", encoding="utf-8")
getLogger("traitlets").setLevel("WARNING")

project = "GMSA workbench"
author = "the GMSA workbench's authors"
release = loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "literal"
suppress_warnings = ["config.cache"]  # the function below cannot be kept, and need not be

# Pages that say so in their first lines are executed, whenever they are read; others show code that the tests run.
nb_execution_mode = "force"
# The test of this site executes one of them: it shows that they can be, and `make docs` executes all.
if chosen := os.environ.get("GMSA_DOCS_EXECUTE"):
    nb_execution_excludepatterns = [
        f"concepts/{page.name}" for page in HERE.glob("concepts/*.md") if page.stem != chosen
    ]
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "warn"

autosummary_generate = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
napoleon_custom_sections = [("Source", "notes_style")]

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines names of modules, as if they were links
html_title = project
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_js_files = [("docs.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_show_search_summary = False  # it asks for the pages by fetch, which file:// refuses
html_theme_options = {"navigation_with_keys": True}


def setup(app: Sphinx) -> None:
    """Mathematics as MathML, which browsers draw themselves; docstrings as the plain text that they are."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _plain, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _defaults)
    app.connect("source-read", _results_here)
    app.connect("doctree-read", _dark_pictures, priority=400)  # before Sphinx collects pictures


html_math_renderer = "mathml"


def _inline(translator: nodes.NodeVisitor, node: nodes.math) -> None:
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def _block(translator: nodes.NodeVisitor, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, as_block: bool = False) -> str:
    try:
        return tex2mathml(node.astext(), as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s in the formula %s", error, node.astext(), location=node)
        return ""


def _plain(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Escape what reStructuredText would take for markup, but for code in backticks: |N_i|, *batch, class_."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def _defaults(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A default that is made anew for each object as `...`: Sphinx reads types only in a signature that is Python."""
    return signature and signature.replace("<factory>", "..."), returned


def _results_here(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to the files of `benchmarks/results` lead to the page that holds them all."""
    source[0] = re.sub(r"\]\((?:\.\./)+benchmarks/results/\w+\.md\)", "](/benchmarks.md)", source[0])


def _dark_pictures(app: Sphinx, page: nodes.document) -> None:
    """Beside a picture the one for dark pages, where there is one: `NAME-dark.png`; the theme shows either."""
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for light in list(page.findall(nodes.image)):
        name = light["uri"].removesuffix(".png") + "-dark.png"
        if (folder / name).is_file():
            dark = light.deepcopy()
            dark["uri"] = name
            light["classes"].append("only-light")
            dark["classes"].append("only-dark")
            light.parent.insert(light.parent.index(light) + 1, dark)
