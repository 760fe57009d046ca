"""
Renders the Markdown of an answer as HTML: code, headings, bold, lists, tables and links.

Everything is escaped before a tag is put around it. The only addresses are those of `http` and
`https` links, and each link shows its address beside its text. Images stay text, so that a page
fetches nothing. A text may end anywhere, as that of a stream does.

Each pattern stops at the first character that its piece can't hold, so the time grows with the
length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .page import AS_WRITTEN, CELL, CODE, LONGEST, SHADE, escape

__all__ = ("rendered",)

# The patterns are compiled at first use, because this would slow the import down.
_FENCE = r"(?m)^ {0,3}```.*$"
_ITEM = r"([ \t]*)(?:([-*+])|(\d{1,9})[.)])[ \t]+(.*)"
_DASHES = r":?-+:?"

# These look at text that is escaped already.
_INLINE_CODE = r"(`[^`\n]+`)"
_BOLD = r"\*\*([^*\n]+)\*\*"
_HEADING = r"(?m)^#{1,6} +(.*)$"
# An address is of printable ASCII without what could end an attribute, a link or bold text.
_LINK = r"(?<!!)\[([^\[\]\n]+)\]\((https?://(?:[!#-%+-;=?-Z^-~]|&amp;)+)\)"

_DEEPEST = 8


def rendered(text: str) -> str:
    """
    Return *text* as HTML. It shows at most the first 100,000 characters.
    """
    # The parts are outside and inside of a fence in turn. The last fence may still be open.
    parts = re.split(_FENCE, text[:LONGEST])
    return "".join(
        _code(part) if number % 2 else "".join(_blocks(part.strip("\n").split("\n")))
        for number, part in enumerate(parts)
        if number % 2 or part.strip()
    )


def _code(text: str) -> str:
    code = escape(text.strip("\n"))
    return (
        f'<pre dir="ltr" style="{CODE};{SHADE};{AS_WRITTEN};padding:.5em .7em;'
        f'margin:.4em 0;border-radius:4px;color:inherit">{code}</pre>'
    )


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    # Yield paragraphs, lists and tables in their order.
    paragraph: list[str] = []
    position = 0
    while position < len(lines):
        end = _end_of_list(lines, position) or _end_of_table(lines, position)
        if not end:
            paragraph.append(lines[position])
            position += 1
            continue
        yield _paragraph(paragraph)
        paragraph = []
        block = lines[position:end]
        yield _list(block) if re.fullmatch(_ITEM, block[0]) else _table(block)
        position = end
    yield _paragraph(paragraph)


def _paragraph(lines: Sequence[str]) -> str:
    text = "\n".join(lines).strip("\n")
    if not text.strip():
        return ""
    return f'<div dir="auto" style="{AS_WRITTEN};unicode-bidi:plaintext">{_inline(text)}</div>'


# --- lists ---


def _end_of_list(lines: Sequence[str], start: int) -> int:
    # Return the end of the list that starts at *start*; 0 if there is none. Indented lines belong
    # to the item before them, and a blank line may stand between two items.
    if not re.fullmatch(_ITEM, lines[start]):
        return 0
    end = position = start + 1
    while position < len(lines):
        line = lines[position]
        position += 1
        if re.fullmatch(_ITEM, line) or (line.startswith((" ", "\t")) and line.strip()):
            end = position
        elif line.strip() or end < position - 1:
            break
    return end


def _list(lines: Sequence[str]) -> str:
    html: list[str] = []
    open_lists: list[tuple[int, str]] = []  # the indentation of each, and its closing tags
    for line in lines:
        item = re.fullmatch(_ITEM, line)
        if item is None:
            html.append(f"\n{_inline(line.strip())}" if line.strip() else "")
            continue
        indent = len(item[1].expandtabs(4))
        while len(open_lists) > 1 and indent < open_lists[-1][0]:
            html.append(open_lists.pop()[1])
        tag, start = ("ul", "") if item[2] else ("ol", f' start="{int(item[3])}"')
        closing = f"</li></{tag}>"
        is_new = not open_lists or indent > open_lists[-1][0] + 1
        if not is_new and open_lists[-1][1] != closing:
            html.append(open_lists.pop()[1])
            is_new = True
        if is_new and len(open_lists) < _DEEPEST:
            html.append(f'<{tag}{start} style="margin:.2em 0;padding-left:1.8em">')
            open_lists.append((indent, closing))
        else:
            html.append("</li>")
        html.append(f'<li dir="auto" style="{AS_WRITTEN}">{_inline(item[4])}')
    html += [closing for _, closing in reversed(open_lists)]
    return "".join(html)


# --- tables ---


def _end_of_table(lines: Sequence[str], start: int) -> int:
    # Return the end of the table that starts at *start*; 0 if there is none. Its second line has
    # dashes for each column.
    if "|" not in lines[start] or start + 1 >= len(lines) or "|" not in lines[start + 1]:
        return 0
    dashes = _cells(lines[start + 1])
    if len(dashes) != len(_cells(lines[start])) or not all(
        re.fullmatch(_DASHES, cell) for cell in dashes
    ):
        return 0
    end = start + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def _cells(line: str) -> list[str]:
    # A pipe after a backslash is part of a cell.
    inner = line.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith(r"\|"):
        inner = inner[:-1]
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _table(lines: Sequence[str]) -> str:
    head, dashes, *body = (_cells(line) for line in lines)
    sides = [_side(cell) for cell in dashes]
    rows = [_row("th", head, sides), *(_row("td", cells, sides) for cells in body)]
    table = (
        f'<table style="border-collapse:collapse;border:0;margin:.3em 0">{"".join(rows)}</table>'
    )
    return f'<div style="overflow-x:auto">{table}</div>'


def _side(dashes: str) -> str:
    if dashes.endswith(":"):
        return "center" if dashes.startswith(":") else "right"
    return "left"


def _row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    # A row has as many cells as the head, as in GitHub's Markdown.
    shown = "".join(
        f'<{tag} dir="auto" style="{CELL};text-align:{side}">{_inline(cell)}</{tag}>'
        for cell, side in zip([*cells, *[""] * (len(sides) - len(cells))], sides, strict=False)
    )
    return f'<tr style="background:none">{shown}</tr>'


# --- inside of a line ---


def _inline(text: str) -> str:
    pieces = re.split(_INLINE_CODE, escape(text))
    for number, piece in enumerate(pieces):
        if number % 2:
            style = f"{CODE};{SHADE};padding:.05em .25em;border-radius:3px;color:inherit"
            pieces[number] = f'<code style="{style}">{piece[1:-1]}</code>'
        else:
            linked = re.sub(_LINK, _link, piece)
            bold = re.sub(_BOLD, r"<strong>\1</strong>", linked)
            pieces[number] = re.sub(_HEADING, r"<strong>\1</strong>", bold)
    return "".join(pieces)


def _link(found: re.Match[str]) -> str:
    text, address = found[1], found[2]
    link = f'<a href="{address}" rel="noopener noreferrer" target="_blank">{address}</a>'
    return link if text == address else f"<bdi>{text}</bdi> ({link})"
