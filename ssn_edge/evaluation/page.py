"""Static HTML pages: one file each, with styles and pictures inside.

A page has no script, and its content security policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

FRAME = "page.html.jinja"
_HERE = "ssn_edge.evaluation"


def read_resource(package: str, name: str) -> str:
    """A text file that is installed beside the code of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def render_page(
    template: str,
    *,
    style: str = "",
    parts: Sequence[str] = (),
    filters: Mapping[str, Callable[[float], str]],
    context: Mapping[str, object],
) -> str:
    """Render a page that extends `page.html.jinja`.

    Args:
        template: Jinja source; everything that it prints is escaped.
        style: CSS of our own that follows the common `report.css`.
        parts: Templates beside this file that the template includes or imports, by name.
        filters: For the template, beside those of Jinja.
        context: For the template.
    """
    css = read_resource(_HERE, "report.css") + style
    loader = DictLoader({name: read_resource(_HERE, name) for name in (FRAME, *parts)})
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=loader
    )
    environment.filters |= filters
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    # Our own files are not escaped: a quote in a style would be.
    return environment.from_string(template).render(
        {**context, "style": Markup(css), "style_hash": digest}
    )
