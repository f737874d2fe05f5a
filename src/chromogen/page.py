"""Text from templates: self-contained HTML pages, no file beside and no address outside, and programs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from chromogen.image import encode_image
from chromogen.provenance import NOTICE

Figure = tuple[NDArray[np.uint8], str]  # a picture (H, W, 3), and its caption


@dataclass(frozen=True)
class Section:
    """A part of a page: a heading, and below it paragraphs, pictures, notes and a table."""

    heading: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def render(template: str, title: str, **values: Any) -> str:
    """A page from a file in `templates`, with its title and the research-use notice, which is always in view.

    Text is escaped. The template shows pictures, uint8 (H, W, 3), by its filter `png`.
    """
    return _environment().get_template(template).render(title=title, **values)


def script(template: str, **values: Any) -> str:
    """A program in Python from a file in `templates`, whose filter `repr` shows a value as Python has it."""
    return _environment().get_template(template).render(**values)


def as_cell(value: object) -> str:
    """A value as tables show it.

    >>> as_cell(0.123456), as_cell(4797.6), as_cell(12), as_cell(None)
    ('0.123', '4,798', '12', '-')
    """
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


@cache
def _environment() -> jinja2.Environment:
    loader, undefined = jinja2.PackageLoader("chromogen"), jinja2.StrictUndefined
    made = jinja2.Environment(
        loader=loader,
        autoescape=jinja2.select_autoescape(),
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"png": _png_address, "repr": repr}
    made.globals |= {"notice": NOTICE.capitalize(), "parts": made.get_template("parts.html").module}
    return made


def _png_address(image: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_image(image, ".png")).decode()
