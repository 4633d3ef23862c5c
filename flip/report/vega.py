"""What figures of the page have in common, in Vega-Lite's JSON: axes, tooltips, a legend that chooses, error bars."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

from flip.files import write_atomic

MEMORY = Path(".flip")  # what can be deleted at any time
HEIGHT = 340  # pixels; the width is that of the page
STILL = {"width": 900, "columns": 5}  # pixels, and of the legend
CONFIG: dict[str, Any] = {
    "font": "system-ui, sans-serif",
    "background": None,  # that of the page, light or dark; so are texts and lines (page.css)
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#333",
        "titleColor": "#222",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 600,
        "titlePadding": 10,
        "gridColor": "#e3e6e9",
    },
    "legend": {"orient": "bottom", "labelFontSize": 12, "labelColor": "#222", "symbolLimit": 0, "labelLimit": 170},
}
# What is clicked on in the legend stays, all else fades.
CHOSEN = {"condition": {"param": "chosen", "value": 1}, "value": 0.12}


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for an element of a page; cached, as bundling takes
    seconds."""
    kept = MEMORY / f"vega-{vl_convert.__version__}.js"  # type: ignore[attr-defined]
    if not kept.exists():
        script = vl_convert.javascript_bundle()  # type: ignore[call-arg]
        write_atomic(kept, script.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
    return kept.read_text()


def rounded(value: float, digits: int = 4) -> float | None:
    """Round a number for JSON, which cannot represent NaN and infinity."""
    return round(float(value), digits) if np.isfinite(value) else None


def axis(field: str, title: str, zero: bool = False) -> dict:
    """Return the axis of a field with numbers."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}}


def tooltip(**titles: str) -> list[dict]:
    """Return the tooltip of fields by name, with their titles."""
    return [{"field": field, "title": title} for field, title in titles.items()]


def chosen_by(field: str, param: str) -> list[dict]:
    """Return the choice of a field's value by a click on its name in the legend."""
    return [{"name": param, "select": {"type": "point", "fields": [field]}, "bind": "legend"}]


def build_figure(records: list[dict], description: str, x: dict, colour: dict, layers: list[dict]) -> dict:
    """Return a figure of records, of layers that share x and colour."""
    common = {"x": x, "color": colour | {"title": None}, "opacity": CHOSEN}
    figure = {"description": description, "width": "container", "height": HEIGHT, "config": CONFIG}
    return figure | {"data": {"values": records}, "encoding": common, "layer": layers}


def error_bars(y: dict) -> dict:
    """Return error bars from `low` to `high`."""
    return {
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
    }


def still(figure: dict) -> bytes:
    """Render an interactive figure in its initial state as SVG."""
    legend = CONFIG["legend"] | {"columns": STILL["columns"]}
    fixed = {"width": STILL["width"], "config": CONFIG | {"legend": legend, "background": "#fff"}}
    return vl_convert.vegalite_to_svg(figure | fixed).encode()
