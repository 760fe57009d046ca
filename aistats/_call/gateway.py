"""
State that all calls of a client share: address, key, settings, connections, limits.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._errors import ConfigurationError
from .._version import __version__
from .credentials import ApiKey, KeyFunction
from .headers import merged_headers
from .retry import RetryBudget
from .settings import ClientOptions, ClientSettings, changed, retry_policy

if TYPE_CHECKING:
    from .._net.sending import PreparedHeaders
    from .._net.transport import Transport
    from .limits import Limits

__all__ = ("Gateway",)


class Gateway:
    """
    The gateway as one client uses it.

    Args:
        api_key: The client's key, or the function that returns it.
        settings: The client's settings.
        origin: The gateway of the client that this one was derived from. Both have the same
            connections.

    Raises:
        ConfigurationError: TLS can't be set up on this machine.
    """

    def __init__(
        self,
        api_key: ApiKey | KeyFunction,
        settings: ClientSettings,
        origin: Gateway | None = None,
    ) -> None:
        self._api_key = api_key
        self._settings = settings
        self._origin = origin
        self._is_closed = False
        self.base_url = settings.base_url
        self.timeout = settings.timeout
        self.policy = retry_policy(settings.max_retries)
        self.max_response_bytes = settings.max_response_bytes
        self.public_headers = merged_headers(
            {"User-Agent": f"aistats/{__version__}", "Content-Type": "application/json"},
            settings.default_headers or {},
        )
        self._prepared: dict[tuple[tuple[str, str | None], ...], PreparedHeaders] = {}
        if origin is None:
            self.transport = _transport(settings)
            self._quotas: _Quotas = weakref.WeakValueDictionary()
        else:
            self.transport = origin.transport
            self._quotas = origin._quotas
        quota = self._quotas.get(api_key)
        if quota is None:
            quota = self._quotas[api_key] = _Quota(settings.max_connections)
        self._quota = quota  # as long as a client has this key
        self.limits = quota.limits
        self.budget = quota.budget

    def derived(self, api_key: ApiKey | KeyFunction | None, options: ClientOptions) -> Gateway:
        """
        Return the same gateway with other *options*, and another key unless *api_key* is `None`, on
        the same connections.

        Raises:
            ConfigurationError: An option is wrong or belongs to the connections, or the client has
                been closed.
        """
        self.check_open()
        return Gateway(api_key or self._api_key, changed(self._settings, options), self)

    def arguments(self) -> dict[str, Any]:
        """
        Return the arguments that make a client like this one, the key among them.

        Raises:
            TypeError: A setting can't be taken to another process.
        """
        return {"api_key": self._api_key.source, **self._settings.arguments()}

    @property
    def fixed_key(self) -> ApiKey | None:
        """
        The key; `None` if a function returns it.
        """
        return self._api_key if isinstance(self._api_key, ApiKey) else None

    async def ask_key(self) -> ApiKey:
        """
        Return the key of the next attempt.

        Raises:
            ConfigurationError: The function that returns it returned no key.
        """
        return (
            await self._api_key.ask() if isinstance(self._api_key, KeyFunction) else self._api_key
        )

    def headers_to_send(
        self, api_key: ApiKey, headers: Mapping[str, str | None]
    ) -> PreparedHeaders:
        """
        Return the headers of a request that has *headers* of its own, as the transport sends them.
        """
        # Nearly every request has one of a few sets. Those with a user's own are made each time.
        names = tuple(headers.items())
        if api_key is self._api_key and names in self._prepared:
            return self._prepared[names]
        own = {"Authorization": api_key.authorization}
        prepared = self.transport.prepared(merged_headers(own, self.public_headers, headers))
        if api_key is self._api_key and len(names) <= 1:
            self._prepared[names] = prepared
        return prepared

    @property
    def is_closed(self) -> bool:
        """
        Whether the client, or the one that it was derived from, has been closed.
        """
        return self._is_closed or (self._origin is not None and self._origin.is_closed)

    def close(self) -> bool:
        """
        Refuse further calls, and return whether the connections are to be closed. Those of a
        derived client belong to the first one.
        """
        self._is_closed = True
        return self._origin is None

    def check_open(self) -> None:
        """
        Raise an error if the client has been closed.

        Raises:
            ConfigurationError: It has been.
        """
        if self.is_closed:
            raise ConfigurationError("The client has been closed; make a new one.")


class _Quota:
    """
    What has been learned about one key: its limits, and how much may be retried.
    """

    __slots__ = ("__weakref__", "budget", "limits")

    def __init__(self, max_connections: int) -> None:
        from .limits import Limits  # loads asyncio

        self.limits: Limits = Limits(max_connections)
        self.budget = RetryBudget()


_Quotas = weakref.WeakValueDictionary[ApiKey | KeyFunction, _Quota]


def _transport(settings: ClientSettings) -> Transport:
    # Loaded with the first client: asyncio and aiohttp take twice as long as all the rest.
    try:
        from .._net.transport import OWN_SERVERS, Transport
    except OSError as error:  # aiohttp makes a TLS context as it is imported
        from .._net.tls import key_log_fault

        raise ConfigurationError(key_log_fault(error)) from None
    transport = OWN_SERVERS.get(urlsplit(settings.base_url).netloc, Transport)
    return transport(
        settings.base_url,
        max_connections=settings.max_connections,
        ssl_context=settings.ssl_context,
        session=settings.session,
    )
