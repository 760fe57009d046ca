"""
The peers, as far as they can be known without importing them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("FLOOR", "PEERS", "Peer")


@dataclass(frozen=True)
class Peer:
    """
    What can be known of a peer without importing it.
    """

    name: str
    """As it stands in tables."""
    packages: tuple[str, ...]
    """The distributions that it needs."""
    statement: str
    """The import that its user writes."""
    is_async: bool


FLOOR = "aiohttp_by_hand"
"""The peer that the others are compared with."""

PEERS = {
    FLOOR: Peer("aiohttp + orjson by hand", ("aiohttp", "orjson"), "import aiohttp", True),
    "aistats_async": Peer(
        "aistats async", ("aistats-sdk",), "from aistats import AsyncClient, Client", True
    ),
    "aistats_sync": Peer(
        "aistats sync", ("aistats-sdk",), "from aistats import AsyncClient, Client", False
    ),
    "openai_async": Peer("openai async", ("openai",), "import openai", True),
    "openai_sync": Peer("openai sync", ("openai",), "import openai", False),
    "phaseo_sync": Peer("phaseo sync, dicts", ("phaseo",), "import phaseo", False),
    "huggingface_async": Peer(
        "huggingface_hub async",
        ("huggingface_hub",),
        "from huggingface_hub import AsyncInferenceClient",
        True,
    ),
    "httpx_by_hand": Peer(
        "httpx + httpx-sse by hand",
        ("httpx", "httpx-sse", "orjson"),
        "import httpx, httpx_sse",
        True,
    ),
}
"""By the names of their modules."""
