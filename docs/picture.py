"""
The picture in README: a real notebook, with the model of `aistats.local`, as Chromium draws it.

It needs the extras `local` and `tests`, and Chromium (Debian: `apt-get install chromium`):

    python docs/picture.py
"""

from __future__ import annotations

import html
import shutil
import subprocess
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

PICTURE = Path(__file__).parent / "first-minute.png"

SETUP = """
import aistats
model = "SmolLM2-135M-Instruct"
local = aistats.local(quiet=True)
client = local.__enter__()
"""
CELLS = [
    """\
questions = [f"What is {number} squared?" for number in range(100)]
run = client.map(questions, model=model, max_output_tokens=20, progress=True).wait()""",
    """\
client.stream_text(
    model=model, messages="Why do people love lighthouses? Answer in two sentences.", seed=2
).show()""",
]
CLOSING = "local.__exit__(None, None, None)"

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<style>
  body {{ margin: 0; padding: 18px 22px; background: #fff; color: #1f2328;
         font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; }}
  .cell {{ display: grid; grid-template-columns: 3.2em 1fr; margin-bottom: 14px; }}
  .count {{ color: #6e7781; font: 13px/1.5 "DejaVu Sans Mono", monospace; padding-top: 9px; }}
  .code {{ background: #f6f8fa; border: 1px solid #d0d7de; border-radius: 4px; padding: 8px 12px; }}
  .code pre {{ margin: 0; font: 13.5px/1.5 "DejaVu Sans Mono", monospace; white-space: pre-wrap; }}
  .output {{ grid-column: 2; padding-top: 8px; }}
</style>
{cells}"""
CELL = """\
<div class="cell"><div class="count">[{number}]:</div><div class="code">{code}</div>
<div class="output">{output}</div></div>
"""


def main() -> None:
    """
    Run the notebook and write the picture of its two cells.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(PAGE.format(cells="".join(_cells(folder))), encoding="utf-8")
        _draw(page, PICTURE)


def _cells(folder: str) -> list[str]:
    """
    Return the cells as HTML, with what the kernel sent to be shown below each.
    """
    sources = [SETUP, *CELLS, CLOSING]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in sources])
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    formatter = HtmlFormatter(style="default", noclasses=True, nobackground=True)
    return [
        CELL.format(
            number=number,
            code=highlight(cell.source, PythonLexer(), formatter),
            output="".join(
                output.data.get("text/html") or html.escape(output.data["text/plain"])
                for output in cell.outputs
            ),
        )
        for number, cell in enumerate(notebook.cells[1:-1], 1)
    ]


def _draw(page: Path, picture: Path) -> None:
    """
    Draw *page* into *picture*, twice as many pixels as it is wide on a screen.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is missing. On Debian: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=2"]
    command = [
        chromium,
        *options,
        f"--screenshot={picture}",
        "--window-size=900,385",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
