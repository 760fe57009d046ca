"""
State that all calls of a client share: address, key, settings, connections, limits.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .._errors import ConfigurationError
from .._version import __version__
from .credentials import ApiKey
from .retry import RetryBudget
from .settings import ClientSettings, retry_policy

__all__ = ("Gateway",)


class Gateway:
    """
    The gateway as one client uses it.

    Args:
        api_key: The client's key.
        settings: The client's settings.

    Raises:
        ConfigurationError: TLS can't be set up on this machine.
    """

    def __init__(self, api_key: ApiKey, settings: ClientSettings) -> None:
        # Loaded with the first client: asyncio and aiohttp take twice as long as all the rest.
        try:
            from .._net.transport import OWN_SERVERS, Transport
            from .limits import Limits
        except OSError as error:  # aiohttp makes a TLS context as it is imported
            from .._net.tls import key_log_fault

            raise ConfigurationError(key_log_fault(error)) from None

        self._api_key = api_key
        self._settings = settings
        self.base_url = settings.base_url
        self.timeout = settings.timeout
        self.policy = retry_policy(settings.max_retries)
        self.max_response_bytes = settings.max_response_bytes
        self.is_closed = False
        self.limits = Limits(settings.max_connections)
        self.budget = RetryBudget()
        self.public_headers = {
            "User-Agent": f"aistats/{__version__}",
            "Content-Type": "application/json",
            **(settings.default_headers or {}),
        }
        transport = OWN_SERVERS.get(urlsplit(self.base_url).netloc, Transport)
        self.transport = transport(
            self.base_url,
            {"Authorization": api_key.authorization, **self.public_headers},
            max_connections=settings.max_connections,
            ssl_context=settings.ssl_context,
            session=settings.session,
        )
        self.masked = api_key.masked

    def arguments(self) -> dict[str, Any]:
        """
        Return the arguments that make a client like this one, the key among them.

        Raises:
            TypeError: A setting can't be taken to another process.
        """
        return {"api_key": self._api_key.key, **self._settings.arguments()}

    def check_open(self) -> None:
        """
        Raise an error if the client has been closed.

        Raises:
            ConfigurationError: It has been.
        """
        if self.is_closed:
            raise ConfigurationError("The client has been closed; make a new one.")
