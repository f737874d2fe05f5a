"""One self-contained HTML page from pictures, tables and words: no file beside it, no address outside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from chromogen.image import encode_image
from chromogen.provenance import NOTICE

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b22; --paper: #fdfcfb; --line: #d8d2cc; --mark: #8a4b16; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece8e4; --paper: #1b1a1e; --line: #45414a; --mark: #e2a36b; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { line-height: 1.2; margin-bottom: .25rem; } h2 { margin-top: 2.5rem; }
.notice { border: 1px solid var(--mark); color: var(--mark); padding: .4rem .8rem; border-radius: .4rem;
  position: sticky; top: .5rem; background: var(--paper); z-index: 1; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 12rem; }
.row figure { max-width: 32rem; } .row figure.plot { flex-basis: 24rem; max-width: 46rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; }
table.words td, table.words th { text-align: left; vertical-align: top; }
figure img, figure svg { width: 100%; height: auto; display: block; border-radius: .3rem; }
figure.plot svg { background: #fff; }
figcaption { font-size: .9rem; margin-top: .35rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; }
td:not(:first-child), th:not(:first-child) { text-align: right; }
code { background: color-mix(in srgb, var(--ink) 9%, transparent); padding: .1rem .3rem; border-radius: .2rem; }
fieldset { border: 0; padding: .2rem 0; margin: 0; } fieldset label { margin-right: 1rem; }
.curtain { position: relative; max-width: 40rem; } .curtain img { width: 100%; display: block; }
.curtain .front { position: absolute; inset: 0; clip-path: inset(0 50% 0 0); }
.curtain + input { width: 100%; max-width: 40rem; }
"""

SCRIPT = """
for (const slider of document.querySelectorAll('.curtain + input'))
  slider.oninput = () => slider.previousElementSibling.querySelector('.front').style.clipPath =
    `inset(0 ${100 - slider.value}% 0 0)`;
"""

SAVE_SCRIPT = """
document.querySelector('button.save').onclick = event => {
  const { columns, file } = event.target.dataset;
  const sets = [...document.querySelectorAll('fieldset[data-name]')];
  const lines = sets.map(set => `${set.dataset.name},${set.querySelector(':checked')?.value ?? ''}`);
  const open = sets.filter(set => !set.querySelector(':checked')).length;
  event.target.nextElementSibling.textContent = open ? `${open} left to answer` : '';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([[columns, ...lines, ''].join('\\r\\n')], { type: 'text/csv' }));
  link.download = file;
  link.click();
};
"""


def page(title: str, *sections: str) -> str:
    """A whole page with the research-use notice always in view."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
        f'<p class="notice" role="note">{escape(NOTICE.capitalize())}.</p>\n'
        + "\n".join(sections)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return f"<h2>{escape(heading)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
    """Plain words."""
    return f"<p>{escape(text)}</p>"


def bullets(texts: Sequence[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def command(text: str) -> str:
    """A command line, as typed."""
    return f"<p><code>{escape(text)}</code></p>"


def row(*figures: str) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="row">{"".join(figures)}</div>'


def grid(*figures: str) -> str:
    """Figures of one size in rows and columns."""
    return f'<div class="grid">{"".join(figures)}</div>'


def details(summary: str, *parts: str) -> str:
    """What opens at a click on its summary."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def picture(image: NDArray[np.uint8], caption: str) -> str:
    """An image, uint8 (H, W, 3), with its caption."""
    return (
        f'<figure><img src="{_uri(image)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
    )


def plot(svg: str, caption: str) -> str:
    """A drawn plot with its caption."""
    return f'<figure class="plot">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def curtain(front: NDArray[np.uint8], back: NDArray[np.uint8], caption: str) -> str:
    """Two images of one size, uint8 (H, W, 3), on top of each other, with a slider that uncovers either."""
    return (
        f'<figure><div class="curtain"><img src="{_uri(back)}" alt=""><img class="front" src="{_uri(front)}" '
        f'alt=""></div><input type="range" min="0" max="100" value="50" aria-label="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def choice(image: NDArray[np.uint8], name: str, answers: Sequence[str]) -> str:
    """An image, uint8 (H, W, 3), of which a person chooses one of `answers`; `save_choices` saves the choice."""
    options = "".join(
        f'<label><input type="radio" name="{escape(name)}" value="{escape(answer)}"> {escape(answer)}</label>'
        for answer in answers
    )
    return f'<fieldset data-name="{escape(name)}">{picture(image, name)}{options}</fieldset>'


def save_choices(columns: tuple[str, str], file_name: str) -> str:
    """A button, one to a page, that saves a CSV of the page's choices: two columns, a name and its answer."""
    return (
        f'<p><button class="save" data-columns="{escape(",".join(columns))}" data-file="{escape(file_name)}">'
        f'Save {escape(file_name)}</button> <span role="status"></span></p><script>{SAVE_SCRIPT}</script>'
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of numbers, whose first column has words."""
    return f"<table>{_inside(header, rows)}</table>"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words."""
    return f'<table class="words">{_inside(header, rows)}</table>'


def _inside(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _uri(image: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_image(image, ".png")).decode()
