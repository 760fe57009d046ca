"""
Detects tools that hook into aiohttp's session for tracing, recording or mocking.

Requests bypass an unmodified session for speed. Tools that hook the session must see every request:
a test suite that expects to be offline must not send any.
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
    # Return aiohttp's own function; another object if it was patched before this import.
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
    Return whether aiohttp's methods are replaced at the moment.

    vcrpy, aioresponses, pook, Datadog and New Relic replace `ClientSession._request`.
    """
    # Checked for each request, since methods may be patched and restored at any time.
    return (
        _Session._request is not _SESSION_REQUEST  # pyright: ignore[reportPrivateUsage]
        or _Session.request is not _SESSION_METHOD
        or _Request.send is not _REQUEST_SEND
    )


def is_untouched(session: aiohttp.ClientSession) -> bool:
    """
    Return whether *session* is unmodified since the transport created it.

    OpenTelemetry and Sentry wrap `ClientSession.__init__`, which adds trace configurations.
    """
    return (
        type(session) is _Session
        and type(session.connector) is Connector
        and not session.trace_configs
        and not getattr(session, "_middlewares", ())
    )
