"""
What can be run on the project: `nox -s lint types tests oldest`, and `bench` and `demo`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False  # on nobody's machine are there all of them
nox.options.sessions = ["lint", "types", "tests"]


def pinned(*tools: str) -> list[str]:
    """
    The requirements of *tools* as the extra `dev` has them.
    """
    dev = PROJECT["project"]["optional-dependencies"]["dev"]
    return [requirement for requirement in dev if requirement.startswith(tools)]


@nox.session
def lint(session: nox.Session) -> None:
    """
    Ruff finds no fault and would format nothing anew.
    """
    session.install(*pinned("ruff"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """
    Mypy and pyright, both strict, agree with the package.
    """
    session.install("-e", ".[local,tests]", *pinned("mypy", "pyright"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """
    The tests pass on the installed package, and cover it; arguments go to pytest.
    """
    session.install(".[local,tests]")
    # Without it Python would import the package from the folder that it is started in.
    session.env["PYTHONSAFEPATH"] = "1"
    session.env["COVERAGE_FILE"] = f"{session.create_tmp()}/coverage"
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    # A part of the tests covers a part of the package.
    session.run("coverage", "report", *([] if session.posargs else ["--fail-under=95"]))


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """
    The tests pass with the oldest Python and the oldest versions of what the package needs;
    arguments go to pytest.
    """
    extras = PROJECT["project"]["optional-dependencies"]
    needed = PROJECT["project"]["dependencies"] + [
        requirement for extra in ("notebook", "pandas", "progress") for requirement in extras[extra]
    ]
    floors = [requirement.replace(">=", "==") for requirement in needed]
    # The oldest pandas was built for numpy 1, but does not say so.
    session.install(".[local,tests]", *floors, "numpy<2")
    session.env["PYTHONSAFEPATH"] = "1"
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """
    The benchmarks are run, on each Python there is; arguments go to them.
    """
    session.install(".[bench]")
    arguments = list(session.posargs)
    if ("--quick" not in arguments and "--only" not in arguments) or "pythons" in arguments:
        for version in PYTHONS:
            if interpreter := shutil.which(f"python{version}"):
                folder = Path(session.create_tmp(), version)
                python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
                session.run(interpreter, "-m", "venv", str(folder), external=True)
                session.run(python, "-m", "pip", "install", "-q", ".", external=True)
                arguments += ["--python", python]
    session.run("python", "benchmarks/run.py", *arguments)


@nox.session
def demo(session: nox.Session) -> None:
    """
    A model on this machine writes a poem.
    """
    session.install(".[local]")
    session.run("python", "-m", "aistats", "--local", "Write a short poem about a lighthouse.")
