"""The documentation site: `nox -s docs`."""

import sys
from pathlib import Path

import nimclient

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "nimclient"
author = "The nimclient authors"
project_copyright = author
release = version = nimclient.__version__
extensions = ["myst_parser", "sphinx_copybutton", "reference"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"nimclient {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # types in signatures; links in prose are checked
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100
copybutton_exclude = ".linenos, .gp"
