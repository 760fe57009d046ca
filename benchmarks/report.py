"""
The results as tables, in plain text and in Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalogue import PEERS
from plan import COLUMNS, Column

__all__ = ("put_into", "text")

_BEGIN, _END = "<!-- results -->\n", "<!-- end of results -->\n"
_TITLES = {
    "loops": "Event loops",
    "json": "JSON libraries, in the loop by hand",
    "pythons": "Python versions",
}


def text(results: dict[str, Any]) -> str:
    """
    All tables, in plain text.
    """
    blocks = [f"{title}\n{'-' * len(title)}\n{_aligned(rows)}" for title, rows in _tables(results)]
    return "\n".join([_about(results), *blocks])


def put_into(file: Path, results: dict[str, Any], pictures: Sequence[Path]) -> None:
    """
    Put the tables and the *pictures* into the Markdown *file*, between its two markers.
    """
    before, _, rest = file.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    blocks = [_about(results)]
    for title, rows in _tables(results):
        head, *body = rows
        lines = [head, ["---", *["--:" for _ in head[1:]]], *body]
        blocks.append(f"### {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    folder = file.parent.resolve()
    links = [
        f"![{picture.stem}]({picture.resolve().relative_to(folder).as_posix()})\n"
        for picture in pictures
        if picture.resolve().is_relative_to(folder)
    ]
    if links:
        blocks += ["### Pictures\n", *links]
    file.write_text(f"{before}{_BEGIN}\n" + "\n".join(blocks) + f"\n{_END}{after}")


def _about(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(
        f"{name} {version}" for name, version in results["versions"].items() if name != "python"
    )
    lines = [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['system']}, {machine['python']}.",
        f"Made on {results['made']}; the medians of {results['runs']} runs with: {versions}.",
    ]
    if results["quick"]:
        lines.append("A quick run: it shows that all works, not how fast it is.")
    for peer, packages in results["missing"].items():
        lines.append(f"Missing: {PEERS[peer].name}, since {', '.join(packages)} is not installed.")
    for part in ("table", *_TITLES):
        for title, cells in results.get(part, {}).items():
            lines += [
                f"Failed: {label}, {title}: {cell['failed']}"
                for label, cell in cells.items()
                if "failed" in cell
            ]
    return "\n".join(lines) + "\n"


def _tables(results: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    tables: list[tuple[str, list[list[str]]]] = []
    table = results.get("table", {})
    for group in dict.fromkeys(column.group for column in COLUMNS):
        columns = [column for column in COLUMNS if column.group == group and column.title in table]
        if columns:
            tables.append((group, _rows(table, columns) + _goal_rows(columns)))
    for part, title in _TITLES.items():
        if part in results:
            columns = [column for column in COLUMNS if column.title in results[part]]
            tables.append((title, _rows(results[part], columns)))
    for curve in results.get("curves", {}).values():
        title = f"{curve['title']}: {curve['unit']}"
        tables.append((title, _points(curve, curve["peers"])))
        if curve["title"] in _WITH_MEMORY:
            title = f"{curve['title']}: MiB in memory, at the peak"
            tables.append((title, _points(curve, curve["peak_mib"])))
    return tables


_WITH_MEMORY = ("Length of a stream", "Streams open at once")


def _rows(table: dict[str, dict[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    rows = [["", *[f"{column.title}, {column.unit}" for column in columns]]]
    rows += [
        [label, *[_shown(table[column.title][label]) for column in columns]]
        for label in table[columns[0].title]
    ]
    return rows


def _goal_rows(columns: Sequence[Column]) -> list[list[str]]:
    peers = dict.fromkeys(peer for column in columns for peer in column.goal)
    return [
        [
            f"goal of {PEERS[peer].name}",
            *[f"≤ {column.goal[peer]:.2f}x" if peer in column.goal else "" for column in columns],
        ]
        for peer in peers
    ]


def _shown(cell: dict[str, Any]) -> str:
    if "failed" in cell:
        return "failed"
    value = _number(cell["median"])
    return f"{value} ({cell['ratio']:.2f}x)" if "ratio" in cell else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _points(curve: dict[str, Any], peers: dict[str, list[float | None]]) -> list[list[str]]:
    rows = [[curve["across"], *[f"{point:,}" for point in curve["points"]]]]
    for peer, values in peers.items():
        shown = ["" if value is None else _number(value) for value in values]
        rows.append([PEERS[peer].name, *shown])
    return rows


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"
