"""Load the templates of a package, and embed figures in a page."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def templates(package: str) -> Environment:
    """Return the templates of a package; values are escaped, and missing ones are an error."""
    return Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline(svg: bytes) -> Markup:
    """Return an SVG file as an element, without the XML prologue."""
    text = svg.decode()
    return Markup(text[text.index("<svg") :])
