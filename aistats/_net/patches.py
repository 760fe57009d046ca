"""
Whether a program has hooked into aiohttp's session: tracing, recording, mocking.

Requests of an untouched session go out by aiohttp's parts, without the session. Whatever hooks the
session has to see every request: a test suite that believes it is offline must not be wrong.
"""

from __future__ import annotations

import types
from typing import Any

import aiohttp
import aiohttp.client
import aiohttp.client_reqrep

from .connector import Connector

__all__ = ("is_patched", "is_untouched")


def _genuine(owner: type[Any], name: str, module: types.ModuleType) -> Any:
    # The function that aiohttp defines; something else if it was patched before this import.
    function = vars(owner).get(name)
    code = getattr(function, "__code__", None)
    is_genuine = type(function) is types.FunctionType and (
        code is not None and code.co_filename == module.__file__
    )
    return function if is_genuine else object()


_Session, _Request = aiohttp.ClientSession, aiohttp.ClientRequest
_SESSION_REQUEST = _genuine(_Session, "_request", aiohttp.client)
_SESSION_METHOD = _genuine(_Session, "request", aiohttp.client)
_REQUEST_SEND = _genuine(_Request, "send", aiohttp.client_reqrep)


def is_patched() -> bool:
    """
    Return whether something else stands in place of aiohttp's own methods now.

    vcrpy, aioresponses, pook, Datadog and New Relic replace `ClientSession._request`.
    """
    # It is asked for each request, so that what is patched or restored at any time counts.
    return (
        _Session._request is not _SESSION_REQUEST  # pyright: ignore[reportPrivateUsage]
        or _Session.request is not _SESSION_METHOD
        or _Request.send is not _REQUEST_SEND
    )


def is_untouched(session: aiohttp.ClientSession) -> bool:
    """
    Return whether *session* is as the transport makes it, and nothing was hooked into it.

    OpenTelemetry and Sentry wrap `ClientSession.__init__`, which adds trace configurations.
    """
    return (
        type(session) is _Session
        and type(session.connector) is Connector
        and not session.trace_configs
        and not getattr(session, "_middlewares", ())
    )
