"""What pages are made with: templates of a package, and figures that stand inside a page."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def templates(package: str) -> Environment:
    """Those that lie in a package; what they are given is escaped, and what they lack is an error."""
    return Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline(svg: bytes) -> Markup:
    """An SVG file as an element, without the XML prologue."""
    text = svg.decode()
    return Markup(text[text.index("<svg") :])
