"""
What a client is made with, apart from its key: each setting checked, with its default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict
from urllib.parse import urlsplit

import attrs

from .._errors import ConfigurationError
from .._options import RetryPolicy, Timeout
from .credentials import KeySource
from .headers import header_faults

if TYPE_CHECKING:
    import ssl

    import aiohttp

__all__ = ("MAX_RESPONSE_BYTES", "ClientOptions", "ClientSettings", "changed", "retry_policy")

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024
_DEFAULT_BASE_URL = "https://api.phaseo.app/v1"


def retry_policy(max_retries: int | RetryPolicy) -> RetryPolicy:
    """
    Return the policy for *max_retries*, which may be one.
    """
    if isinstance(max_retries, RetryPolicy):
        return max_retries
    return RetryPolicy(max_retries=max_retries)


def _base_url(given: Any) -> str:
    # By itself: IPython's verbose traceback shows the values in the statement that raised, and
    # those of the environment hold the key.
    url = given or os.environ.get("AI_STATS_BASE_URL") or _DEFAULT_BASE_URL
    return _checked_base_url(url, "base_url" if given else "AI_STATS_BASE_URL in the environment")


def _checked_base_url(url: Any, source: str) -> str:
    bare: str = url.strip() if isinstance(url, str) else ""
    try:
        parts = urlsplit(bare)
        # An empty label, as in `a..b`, can't be looked up; the host may be an address.
        host = (parts.hostname or "").encode("idna")
        is_http = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        is_bare = parts.username is None and not parts.query and not parts.fragment
    except ValueError:
        is_http = is_bare = False
    if not is_http or re.search(r"[\s\x00-\x1f\x7f]", bare):
        raise ConfigurationError(
            f"{source} must be an http or https URL, such as {_DEFAULT_BASE_URL}; not {url!r}"
        )
    if not is_bare:
        raise ConfigurationError(f"{source} must not have a user name, a query or a fragment.")
    bare = bare.rstrip("/")
    for path in ("/chat/completions", "/completions", "/responses", "/messages"):
        if bare.endswith(path):
            raise ConfigurationError(
                f"{source} must end before {path}, which the client adds: write "
                f"{bare.removesuffix(path)!r}"
            )
    return bare


def _timeout(given: Timeout | float | None) -> Timeout:
    return Timeout.of(given)


def _check_count(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"{attribute.name} must be a whole number of 1 or more; not {value!r}"
        )


def _check_retries(_: object, _attribute: attrs.Attribute[Any], value: Any) -> None:
    retry_policy(value)  # which checks it


def _check_headers(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if faults := header_faults(attribute.name, value or {}):
        raise ConfigurationError("; ".join(map(str, faults)))


def _check_context(_: object, _attribute: attrs.Attribute[Any], value: Any) -> None:
    import ssl  # loaded together with the transport

    if value is not None and not isinstance(value, ssl.SSLContext):
        raise ConfigurationError(
            f"ssl_context must be an ssl.SSLContext, or None; not {value!r}. Certificates are "
            "always checked; to trust others, give a context that does."
        )


def _check_session(settings: ClientSettings, _: attrs.Attribute[Any], value: Any) -> None:
    # Stand-ins for aiohttp's session are fine, in tests for example.
    is_session = hasattr(value, "request") and hasattr(value, "closed")
    if value is not None and not is_session and not callable(value):
        raise ConfigurationError(
            "session must be an aiohttp.ClientSession, a function that returns one, or None; "
            f"not {type(value).__name__}"
        )
    if value is not None and settings.ssl_context is not None:
        raise ConfigurationError(
            "ssl_context is for the client's own connections; those of a session are made by its "
            "connector: aiohttp.TCPConnector(ssl=...)."
        )


class ClientOptions(TypedDict, total=False):
    """
    Options that `with_options` changes.

    Keys:
        api_key (a string, or a function that returns one): The gateway's key.
        timeout (a Timeout, a number of seconds, or None): Limits of a call. A number limits the
            whole call; None means no limit.
        max_retries (a whole number, or a RetryPolicy): How often a failed call is tried again.
        default_headers (a mapping): Headers on top of the client's. They win, and None removes one.
        max_response_bytes (a whole number, 1 or more): The longest answer, or event of a stream,
            that is read, in bytes.
    """

    api_key: KeySource
    timeout: Timeout | float | None
    max_retries: int | RetryPolicy
    default_headers: Mapping[str, str | None]
    max_response_bytes: int


@attrs.frozen(eq=False, repr=False)
class ClientSettings:
    """
    Settings of a client; those of `AsyncClient` with their names.

    Raises:
        ConfigurationError: A value can't be used.
    """

    base_url: str = attrs.field(converter=_base_url)
    timeout: Timeout = attrs.field(converter=_timeout)
    max_retries: int | RetryPolicy = attrs.field(validator=_check_retries)
    max_connections: int = attrs.field(validator=_check_count)
    default_headers: Mapping[str, str | None] | None = attrs.field(validator=_check_headers)
    ssl_context: ssl.SSLContext | None = attrs.field(validator=_check_context)
    session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None = attrs.field(
        validator=_check_session
    )
    max_response_bytes: int = attrs.field(validator=_check_count)

    def arguments(self) -> dict[str, Any]:
        """
        Return the arguments that make a client with these settings, in another process too.

        Raises:
            TypeError: A session that exists, or a TLS context, can't be taken elsewhere.
        """
        if self.session is not None and not callable(self.session):
            raise TypeError(
                "a client with a session of your own can't be pickled or copied; give a function "
                "that makes one: session=lambda: aiohttp.ClientSession(...), or make the client "
                "where it is used"
            )
        if self.ssl_context is not None:
            raise TypeError(
                "a client with an ssl_context can't be pickled or copied, since the context can't; "
                "make the client where it is used, or set SSL_CERT_FILE there"
            )
        return attrs.asdict(self, recurse=False)


def changed(settings: ClientSettings, options: ClientOptions) -> ClientSettings:
    """
    Return *settings* with *options*, apart from the key, in place of what they had.

    Raises:
        ConfigurationError: An option is wrong, or belongs to the connections.
    """
    names = ClientOptions.__annotations__.keys()
    if unknown := [name for name in options if name not in names]:
        of_connections = [name for name in unknown if hasattr(settings, name)]
        raise ConfigurationError(
            f"with_options can't change {', '.join(unknown)}; it takes {', '.join(names)}."
            + (" Make a new client for other connections." if of_connections else "")
        )
    values: dict[str, Any] = {**options}
    new = attrs.evolve(settings, **values)  # which checks them
    headers = new.default_headers or {}
    replaced = {name.lower() for name in headers}
    kept = {
        name: value
        for name, value in (settings.default_headers or {}).items()
        if name.lower() not in replaced
    }
    return attrs.evolve(new, default_headers={**kept, **headers})
