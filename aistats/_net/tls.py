"""
Trusted certificates, and advice for certificates that are rejected.
"""

from __future__ import annotations

import functools
import os
import ssl

from .._errors import ConfigurationError

__all__ = ("advice_on", "context_of_environment", "key_log_fault")

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

# OpenSSL's codes for a rejected certificate (X509_V_ERR_*).
_NOT_YET_VALID, _EXPIRED, _WRONG_HOST, _WRONG_ADDRESS = 9, 10, 62, 64


def context_of_environment() -> ssl.SSLContext | None:
    """
    Return the TLS context for the current values of `SSL_CERT_FILE` and `SSL_CERT_DIR`; `None` if
    neither is set.

    aiohttp creates its own context on import, and reads the variables only then.

    Raises:
        ConfigurationError: `SSLKEYLOGFILE` names a file that can't be written.
    """
    values = tuple(os.environ.get(name) for name in (*_VARIABLES, "SSLKEYLOGFILE"))
    return _context(values) if any(values[:2]) else None


@functools.lru_cache(maxsize=4)
def _context(_: tuple[str | None, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()  # it reads the variables itself
    except OSError as error:
        raise ConfigurationError(key_log_fault(error)) from None
    context.set_alpn_protocols(("http/1.1",))
    return context


def key_log_fault(error: OSError) -> str:
    """
    Return the message for a TLS context that can't be created because of a file.
    """
    return (
        f"TLS can't be set up: {error.strerror or error}"
        f"{f': {error.filename}' if error.filename else ''}. SSLKEYLOGFILE must name a file that "
        "can be written; unset it, or make its folder."
    )


def advice_on(error: object) -> str:
    """
    Return advice for a certificate that was rejected with *error*.
    """
    code = getattr(error, "verify_code", None)
    if code == _EXPIRED:
        return "It has expired: renew it on the server, or check this machine's clock."
    if code == _NOT_YET_VALID:
        return "It is not valid yet: check this machine's clock."
    if code in (_WRONG_HOST, _WRONG_ADDRESS):
        return "It is for another host: check base_url."
    for name in _VARIABLES:
        if (path := os.environ.get(name)) and not os.path.exists(path):  # noqa: PTH110  # a string
            return f"{name} names {path}, which is not there."
    return "Set SSL_CERT_FILE to a file with the authority that has signed it."
