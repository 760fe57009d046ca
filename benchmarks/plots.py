"""
The results as pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from catalogue import PEERS
from matplotlib import pyplot as plt
from plan import COLUMNS

__all__ = ("draw",)

mpl.use("Agg")
mpl.rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "aistats",  # the same picture is the same file
    }
)

_COLOURS = {
    "aiohttp_by_hand": "#555555",
    "aistats_async": "#1f6fd6",
    "aistats_sync": "#6fb1ff",
    "openai_async": "#d62728",
    "openai_sync": "#ff9896",
    "phaseo_sync": "#9467bd",
    "huggingface_async": "#e6a700",
    "httpx_by_hand": "#2ca02c",
}
_BARS = 5  # columns that have bars: what a call, a chunk and a first token cost


def draw(results: dict[str, Any], out: Path) -> list[Path]:
    """
    Draw what there is in *results* into files in *out*, as SVG and as PNG; returns the former.
    """
    pictures: list[Path] = []
    if "table" in results:
        pictures.append(_bars(results["table"], out / "ratios"))
    for name, curve in results.get("curves", {}).items():
        pictures.append(_curve(curve, curve["peers"], curve["unit"], out / name))
        if name in ("chunks", "open"):
            memory = "MiB in memory, at the peak"
            pictures.append(_curve(curve, curve["peak_mib"], memory, out / f"{name}-memory"))
    return pictures


def _bars(table: dict[str, Any], file: Path) -> Path:
    columns = [column for column in COLUMNS[:_BARS] if column.title in table]
    figure, axes = plt.subplots(1, len(columns), figsize=(12, 3.2), sharey=True)
    for axis, column in zip(axes, columns, strict=True):
        cells = table[column.title]
        for row, (peer, known) in enumerate(reversed(PEERS.items())):
            ratio = cells.get(known.name, {}).get("ratio")
            if ratio is None:
                axis.text(1, row, " missing", va="center", color="#999999")
                continue
            axis.barh(row, ratio, color=_COLOURS[peer])
            axis.text(ratio, row, f" {ratio:.3g}x", va="center")
        axis.set_yticks(range(len(PEERS)), [known.name for known in reversed(PEERS.values())])
        axis.set_xscale("log")
        axis.set_xlim(0.8, 200)
        axis.set_xticks([1, 10, 100], ["1x", "10x", "100x"])
        axis.axvline(1, color="#555555", linewidth=0.8)
        axis.set_title(column.title, fontsize=10)
    return _save(figure, file)


def _curve(
    curve: dict[str, Any], peers: dict[str, list[float | None]], unit: str, file: Path
) -> Path:
    figure, axis = plt.subplots(figsize=(7, 4))
    for peer, values in peers.items():
        known = [(x, y) for x, y in zip(curve["points"], values, strict=True) if y is not None]
        if known:
            axis.plot(*zip(*known, strict=True), "o-", color=_COLOURS[peer], label=PEERS[peer].name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(curve["across"])
    axis.set_ylabel(unit)
    axis.set_title(curve["title"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return _save(figure, file)


def _save(figure: Any, file: Path) -> Path:
    drawn = file.with_suffix(".svg")
    figure.savefig(drawn, bbox_inches="tight", metadata={"Date": None})
    figure.savefig(file.with_suffix(".png"), bbox_inches="tight", dpi=110)
    plt.close(figure)
    return drawn
