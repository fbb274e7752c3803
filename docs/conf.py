"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

# Set before anything is imported: examples must neither find nor leave a cache, and TensorFlow talks to itself.
os.environ["AGEGENDER_HOME"] = tempfile.mkdtemp(prefix="agegender-docs-")
os.environ["COLUMNS"] = "92"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MPLBACKEND"] = "agg"

from sphinx_gallery.sorting import ExplicitOrder

import agegender

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "agegender"
copyright = "the agegender developers"
version = release = agegender.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_line",
    "command_output",
]
exclude_patterns = ["_build", "_templates", "examples/*.md5", "**sg_execution_times.rst"]
templates_path = ["_templates"]
nitpicky = True
# Other people's objects: nothing is fetched while building, so nothing links to their sites.
nitpick_ignore_regex = [("py:.*", r"(np|numpy|pandas|sklearn|keras|tensorflow|matplotlib|onnxruntime)\..*")]
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "agegender"
html_static_path = ["_static"]
html_css_files = ["agegender.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

READING_ORDER = (
    *(
        "quickstart",
        "astronaut",
        "own_data",
        "cross_validation",
        "grid_search",
        "best_crop",
        "uncertainty",
        "fairness",
    ),
    *("fine_tuning", "custom_head", "custom_backbone", "imdb_wiki", "cluster"),
)
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ExplicitOrder([*(f"plot_{name}.py" for name in READING_ORDER), "*"]),
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "backreferences_dir": "api/backreferences",
    "doc_module": ("agegender",),
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
    "min_reported_time": 3600,
}
suppress_warnings = ["config.cache"]
warnings.filterwarnings("ignore", message=".*np\\.object.*", category=FutureWarning)


def skip(app: object, what: str, name: str, thing: object, skipped: bool, options: object) -> bool | None:
    """Leave out what scikit-learn adds to every estimator for metadata routing."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


def setup(app: object) -> None:
    app.connect("autodoc-skip-member", skip)
