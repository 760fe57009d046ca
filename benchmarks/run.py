"""
Measures aistats beside other clients, in one run; `README.md` beside this file says how to read it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import report
from catalogue import FLOOR, PEERS
from measure import Failed, Variant, compare, follow, installed, serving
from plan import CHOSEN, COLUMNS, CURVES, JSON_LIBRARIES, LOOPS, OURS

PARTS = ("table", "curves", "loops", "json", "pythons")
QUICK_PARTS = ("table",)


def main() -> None:
    """
    Measure what the command line asks for, print the tables, and write all into a folder.
    """
    options = _options()
    results = measure(options)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.text(results)
    (out / "results.txt").write_text(text)
    pictures: list[Path] = []
    try:
        import plots
    except ImportError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    else:
        pictures = plots.draw(results, out)
    if options.readme:
        report.put_into(options.readme, results, pictures)
    print(json.dumps(results, indent=1) if options.json else text)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """
    The results, as they are written as JSON.
    """
    versions = installed()
    missing = {
        peer: [package for package in known.packages if package not in versions]
        for peer, known in PEERS.items()
    }
    peers = [peer for peer in PEERS if not missing[peer]]
    parts = options.only or (QUICK_PARTS if options.quick else PARTS)
    results: dict[str, Any] = {
        "made": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": machine.describe(),
        "versions": versions,
        "missing": {peer: packages for peer, packages in missing.items() if packages},
        "runs": options.runs,
        "quick": options.quick,
    }
    if FLOOR not in peers:
        raise SystemExit("aiohttp and orjson are needed: all is measured against them.")
    ours = [peer for peer in OURS if peer in peers]
    with serving() as url:
        settings = {"runs": options.runs, "is_quick": options.quick, "tell": _tell}
        compared = functools.partial(compare, url=url, **settings)
        if "table" in parts:
            variants = {PEERS[peer].name: Variant(peer) for peer in peers}
            results["table"] = compared(variants, COLUMNS)
        if "curves" in parts:
            results["curves"] = {
                curve.name: follow(curve, peers, url, **settings) for curve in CURVES
            }
        for part, variants in _choices(ours, versions, options.python):
            if part in parts:
                results[part] = compared(variants, CHOSEN)
    _tell("")
    return results


def _choices(
    ours: list[str], versions: dict[str, str], pythons: list[str]
) -> Iterator[tuple[str, dict[str, Variant]]]:
    # What a user can choose. aistats has one JSON library; what the others would give is seen on
    # the loop by hand.
    asynchronous = [peer for peer in ours if PEERS[peer].is_async]
    yield (
        "loops",
        {
            f"{PEERS[peer].name}, {loop}": Variant(
                peer, options={"loop": loop}, floor=f"{PEERS[FLOOR].name}, {loop}"
            )
            for loop in LOOPS
            for peer in asynchronous
            if loop == "asyncio" or loop in versions
        },
    )
    yield (
        "json",
        {
            f"aiohttp by hand, {name}": Variant(FLOOR, options={"json": name})
            for name in JSON_LIBRARIES
            if name == "json" or name in versions
        },
    )
    found: dict[str, Variant] = {}
    for python in [sys.executable, *pythons]:
        try:
            version = installed(python)["python"]
        except (Failed, OSError) as error:
            print(f"{python}: {error}", file=sys.stderr)
            continue
        for peer in ours:
            floor = f"{PEERS[FLOOR].name}, {version}"
            found[f"{PEERS[peer].name}, {version}"] = Variant(peer, python, floor=floor)
    yield "pythons", found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="little of each, and the table alone, to see that it works",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts of it")
    parser.add_argument("--runs", type=int, help="how often each is measured (5; 1 if quick)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/benchmarks"),
        help="the folder for results.json, results.txt and the pictures (build/benchmarks)",
    )
    parser.add_argument(
        "--readme", type=Path, help="put the tables into this file, too, between its markers"
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="measure with this interpreter, too, which has to have the package installed",
    )
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 5)
    return options


def _tell(what: str) -> None:
    # One line, written over and over, where somebody may be looking.
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
