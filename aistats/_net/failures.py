"""
Turns aiohttp's errors and expired deadlines into errors of this package.
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from .._errors import (
    APIConnectionError,
    APIResponseError,
    ConfigurationError,
    at_local_limit,
    out_of_time,
)
from .._options import Timeout
from .deadlines import Deadline
from .local_limits import local_limit
from .tls import advice_on

__all__ = ("given_up", "translated")


def given_up(
    deadline: Deadline, host: str, timeout: Timeout, phase: str
) -> APIConnectionError | ConfigurationError:
    """
    Return the error for an operation that ended because *deadline* expired.
    """
    if deadline.expired == "idle":
        return out_of_time("idle", timeout.idle, host, phase)
    if deadline.expired == "closed":
        return ConfigurationError(f"The client was closed while {phase} ({host}).")
    return out_of_time("total", timeout.total, host, phase)


def translated(
    error: BaseException, host: str, timeout: Timeout, phase: str, *, is_own: bool = True
) -> APIConnectionError | APIResponseError | ConfigurationError:
    """
    Return the package's error for *error*, which aiohttp or the system raised.

    Args:
        error: The exception.
        host: Host and port of the gateway, used in messages.
        timeout: The time limits of the call.
        phase: What the call was doing.
        is_own: Whether the session belongs to the transport, not to the user.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return out_of_time("connect", timeout.connect, host, "connecting")
    if isinstance(error, aiohttp.SocketTimeoutError):
        return out_of_time("idle", timeout.idle, host, phase)
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientOSError):
        return out_of_time("total", timeout.total, host, phase)
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigurationError("base_url is not a URL that can be called.")
    if isinstance(error.__cause__, ContentEncodingError):
        return APIResponseError(
            f"The answer of {host} can't be unpacked: it is not compressed as its headers say. "
            "Check what is between here and the gateway."
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_failure(error, host)
    if isinstance(error, aiohttp.ClientResponseError):
        return APIResponseError(
            f"{host} did not answer in proper HTTP: {' '.join(error.message.split())[:200]}. "
            "Check that base_url leads to the gateway's API."
        )
    if (limit := local_limit(error)) is not None:
        return at_local_limit(f"There is no connection to {host}", limit)
    # Some of aiohttp's own errors, those of certificates, are ValueErrors, too.
    if isinstance(error, RuntimeError | ValueError) and not isinstance(error, aiohttp.ClientError):
        if not is_own:
            return ConfigurationError(
                f"The aiohttp session can't send this: {error}. Is it open, and of this event loop?"
            )
        failure = APIConnectionError(
            f"The request to {host} could not be sent: {type(error).__name__}: {error}."
        )
        failure.is_permanent = True
        return failure
    failure = APIConnectionError(_in_words(error, host))
    failure.is_permanent = isinstance(error, aiohttp.ClientConnectorCertificateError)
    return failure


def _proxy_failure(error: aiohttp.ClientHttpProxyError, host: str) -> APIConnectionError:
    told = f"{host} could not be reached: the proxy answered {error.status} {error.message}."
    if error.status == _PROXY_AUTHENTICATION:
        failure = APIConnectionError(
            f"{told} Check the user name and the password in HTTP_PROXY or HTTPS_PROXY."
        )
        # Another try with the same password could lock the account.
        failure.is_permanent = True
        return failure
    return APIConnectionError(
        f"{told} Check the proxy in HTTP_PROXY and HTTPS_PROXY, or set NO_PROXY."
    )


def _in_words(error: BaseException, host: str) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason: object = error.certificate_error
        return f"The certificate of {host} can't be trusted: {reason}. {advice_on(reason)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _look_up_failure(error.os_error, host)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or error.os_error
        return f"{host} could not be reached: {reason}. Check base_url and the network."
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{host} closed the connection without an answer. {_TRY_AGAIN}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"The answer of {host} broke off before its end. {_TRY_AGAIN}"
    return f"The connection to {host} was lost: {error}. {_TRY_AGAIN}"


def _look_up_failure(error: OSError, host: str) -> str:
    reason = error.strerror or error
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST:
        return f"The host {host} was not found: {reason}. Check base_url and the network."
    return (
        f"The host {host} could not be looked up: {reason}. The name may well exist: check the "
        "network and the DNS servers of this machine."
    )


# EAI_AGAIN, EAI_FAIL, EAI_SYSTEM and others say that nobody knows.
_NO_SUCH_HOST = {
    getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
}
_PROXY_AUTHENTICATION = 407
_TRY_AGAIN = "Try again; if it goes on, check base_url and the network."
