"""A page as Markdown that also reads well raw, and as a TeX table environment (packages booktabs and adjustbox)."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator

from tabulate import tabulate

from harness.reporting.tables.build import NOT_PLANNED
from harness.reporting.tables.cell_text import NOTHING
from harness.reporting.tables.layout import MATH
from harness.reporting.tables.page import DIFFERENCE, OURS, Line, Page

TEX_TEXT = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "≤": r"$\le$",
    "≈": r"$\approx$",
    "γ": r"$\gamma$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\textsection{}",
    "¶": r"\textparagraph{}",
    "‖": r"$\Vert$",
    "⋄": r"$\diamond$",
    "▽": r"$\bigtriangledown$",
    "∘": r"$\circ$",
    "\n": " ",
}
MARKDOWN_TEXT = {"*": r"\*", "\\": r"\\", "\n": " "}
MARKDOWN_TAG = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")  # what opens HTML in Markdown; a mere < does not
CODE = re.compile(r"`([^`]*)`")


def _markdown(text: str) -> str:
    """Prose; text between backticks stays code, in which nothing needs an escape."""
    parts = CODE.split(text)  # text, code, text, ...
    for i, part in enumerate(parts):
        plain = MARKDOWN_TAG.sub(lambda found: html.escape(found[0]), part.translate(str.maketrans(MARKDOWN_TEXT)))
        parts[i] = f"`{part}`" if i % 2 else plain
    return "".join(parts)


def _markdown_cell(text: str) -> str:
    return _markdown(text).replace("|", r"\|")


def _tex(text: str) -> str:
    """Text between backticks becomes mathematics where MATH knows it."""
    parts = CODE.split(text)
    for i, part in enumerate(parts):
        plain = part.translate(str.maketrans(TEX_TEXT))
        code = f"${MATH[part]}$" if part in MATH else rf"\texttt{{{plain}}}"
        parts[i] = code if i % 2 else plain
    return "".join(parts)


def at_a_glance(page: Page) -> str:
    """The numbers alone, ours and the thesis', for a terminal: rows and columns that have one of ours."""
    kept: list[tuple[str, list[tuple[str, ...]]]] = []
    for label, block in page.blocks:
        shown: list[tuple[str, ...]] = []
        is_ours = False
        for line in block:
            if line.first:
                is_ours = any(map(_is_ours, line.cells[2:]))
            if is_ours and line.cells[1] != DIFFERENCE:
                shown.append(line.cells)
        if shown:
            kept.append((label, shown))
    ours = [cells for _, lines in kept for cells in lines if cells[1] == OURS]
    columns = [i for i in range(2, len(page.header)) if any(_is_ours(cells[i]) for cells in ours)]
    if not columns:
        return f"Table {page.number}: no cell of it is in the configuration"

    def short(cells: tuple[str, ...]) -> list[str]:
        plain = (cells[i].partition(" ±")[0].replace("`", "") for i in (0, 1, *columns))
        return [textwrap.shorten(text, 50, placeholder=" ...") for text in plain]

    body = [line for label, lines in kept for line in [*([[f"[{label}]"]] if label else []), *map(short, lines)]]
    align = ("left", "left", *["right"] * len(columns))
    title = f"Table {page.number} (with standard errors and notes in the files below)\n"
    return title + tabulate(body, short(page.header), disable_numparse=True, colalign=align)


def _is_ours(cell: str) -> bool:
    return cell not in (NOT_PLANNED, NOTHING)


def markdown(page: Page) -> str:
    """GitHub's table syntax with columns aligned; blocks are rows with a bold heading."""
    rows = []
    for label, lines in page.blocks:
        if label:
            rows.append((f"**{_markdown_cell(label)}**", *[""] * (len(page.header) - 1)))
        rows += [tuple(_bold(line, _markdown_cell, "**{}**")) for line in lines]
    aligned = tabulate(
        rows,
        headers=[_markdown_cell(cell) for cell in page.header],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left", "left", *["right"] * (len(page.header) - 2)),
    )
    notes = "\n".join(f"- {_markdown(note)}" for note in page.notes)
    return f"# {_markdown(page.heading)}\n\n{_markdown(page.caption)}\n\n{aligned}\n\n{notes}\n"


def tex(page: Page) -> str:
    """A ``table`` environment to \\input; no wider than the text."""
    width = len(page.header)
    body = []
    for label, lines in page.blocks:
        body.append(r"\midrule")
        if label:
            body.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_tex(label)}}}}} \\")
        for position, line in enumerate(lines):
            if line.first and (label or position):
                body.append(r"\addlinespace")
            body.append(_tex_row(_bold(line, _tex, r"\textbf{{{}}}")))
    return "\n".join(
        [
            rf"% {page.heading}; needs \usepackage{{booktabs,adjustbox}}",
            r"\begin{table}",
            r"\centering",
            rf"\caption[{{{_tex(page.title)}}}]{{{_tex(page.caption)}}}",
            rf"\label{{tab:{page.name.replace('_', '-')}}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            rf"\begin{{tabular}}{{ll{'r' * (width - 2)}}}",
            r"\toprule",
            _tex_line(page.header),
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            "",
            r"\medskip",
            r"\begin{minipage}{\textwidth}",
            r"\footnotesize",
            *[rf"{_tex(note)}\par" for note in page.notes],
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _tex_line(cells: tuple[str, ...]) -> str:
    return _tex_row(_tex(cell) for cell in cells)


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _bold(line: Line, text: Callable[[str], str], form: str) -> Iterator[str]:
    """The cells of a line as ``text`` makes them, the bold ones in ``form``."""
    for i, cell in enumerate(line.cells):
        yield form.format(text(cell)) if i in line.bold else text(cell)
