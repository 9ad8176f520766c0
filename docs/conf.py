"""The documentation site: ``make site`` builds it into ``docs/_site``; nothing in it is loaded from another server."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # LiteLLM is imported for the reference, and would fetch its prices
sys.path.insert(0, str(Path(__file__).parents[1]))

project = "Wallie LiteLLM"
author = "The Wallie LiteLLM authors"
release = installed_version("wallie-litellm")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_llms_txt"]
root_doc = "index"
exclude_patterns = ["_site", "grafana"]

html_theme = "furo"
html_title = "Wallie LiteLLM"
html_copy_source = True  # each page's Markdown, as _sources/NAME.md.txt
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["_static"]
html_css_files = ["reading.css"]
html_js_files = ["reading.js"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.xref_missing"]  # links into the source: tests/docs checks that their files exist

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
llms_txt_summary = "Waiting rate limits, circuit breakers and fallback chains for LiteLLM's Router and Proxy."
