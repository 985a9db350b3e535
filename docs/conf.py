"""Settings of Sphinx. Build the manual with ``tox -e docs``, or ``sphinx-build -n -W docs OUTPUT``.

The build needs no network. Names of the standard library and of other packages are looked up by importing them,
so that one that does not exist is still an error; ``-t online`` also links them to their own documentation.
"""

import builtins
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parent.parent))

import servomex

project = "servomex"
author = "The servomex developers"
project_copyright = author
version = release = servomex.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
needs_sphinx = "9.0"
html_theme = "furo"
html_title = f"servomex {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
default_role = "any"
smartquotes = False
highlight_language = "text"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

if "online" in tags:  # type: ignore[name-defined]  # noqa: F821 (Sphinx puts the tags of -t here)
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "attrs": ("https://www.attrs.org/en/stable", None),
        "click": ("https://click.palletsprojects.com/en/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }


nitpick_ignore = [("py:class", "DataFrame"), ("py:class", "Figure")]
"""Of pandas and matplotlib, which are not needed to build the manual."""


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Find what a name in a docstring means, after Sphinx could not.

    Docstrings and signatures name things as the module that defines them does; the manual has each under its
    public name. What is of another package, or exists and is not public, is shown without a link. What does not
    exist stays an error.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].partition("[")[0]
    exists = _exists(target)
    found = _in_the_manual(env, target) or (_in_the_manual(env, target.rpartition(".")[2]) if exists else None)
    if found:
        return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found, node, text)
    return text if exists else None


def _in_the_manual(env: BuildEnvironment, name: str) -> str | None:
    """Return the full name under which the manual has something, if that is clear."""
    objects = env.domains.python_domain.objects
    matches = [
        full
        for full, entry in objects.items()
        if f".{full}".endswith(f".{name}") and not entry.aliased and ("." in name or entry.objtype in _KINDS)
    ]
    return matches[0] if len(matches) == 1 else None


_KINDS = ("class", "data", "exception", "function", "module")
"""What a name without a dot may mean: members have the name of their class in front."""


def _exists(target: str) -> bool:
    """Look for a name by importing it; one without a module may be a built-in or any name of this package."""
    if "." not in target:
        ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "servomex"]
        return any(hasattr(module, target) for module in [builtins, *ours])
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def keep_whole(_app: Sphinx, what: str, _name: str, _it: Any, _options: Any, lines: list[str]) -> None:
    """Put an empty comment first, so that napoleon does not take the text before a colon for a type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def show_as_typed(_app: Sphinx, _context: Any, lines: list[str]) -> None:
    """Show what stands below the options as it is typed, without the exit codes, which have a page."""
    text = "\n".join(line.removeprefix("| ").rstrip() for line in lines)
    text = re.sub(r"^Exit codes:\n(?:  .*\n?)*", "", text, flags=re.MULTILINE).strip()
    lines[:] = ["", ".. code-block:: text", "", *(f"   {line}" for line in text.splitlines()), ""] if text else []


def omit(_app: Sphinx, _context: Any, lines: list[str]) -> None:
    """Omit the environment variables of each command: they follow one rule, which has a page."""
    lines.clear()


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", keep_whole, priority=400)
    app.connect("missing-reference", resolve, priority=900)
    app.connect("sphinx-click-process-epilog", show_as_typed)
    variables = "sphinx-click-process-envars"  # what sphinx-click calls it when it emits it
    if variables not in app.events.events:
        app.add_event(variables)
    app.connect(variables, omit)
