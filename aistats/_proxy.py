"""
The proxy that the environment names for a URL, and the hosts that are reached without one.

The rules are those of curl and Go's `httpproxy`, which agree where they overlap: an entry of
`NO_PROXY` is `*`, a host name (its subdomains are included, with or without a leading dot), an IP
address, a network such as `10.0.0.0/8`, each of them with or without a port.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from collections.abc import Iterable

from yarl import URL

from ._errors import ConfigurationError

__all__ = ("environment_proxy", "is_bypassed")

_DEFAULT_PORTS = {"http": 80, "https": 443}


def environment_proxy(url: URL) -> URL | None:
    """
    Return the proxy for *url* by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either
    case, or by the system's settings; `None` for none.

    aiohttp's `trust_env` is not used: it looks again for each request, in a thread, and lets
    `.netrc` replace the key.

    Raises:
        ConfigurationError: The proxy's address can't be used.
    """
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return None
    if "no" in proxies:
        if is_bypassed(url, proxies["no"]):
            return None
    elif urllib.request.proxy_bypass(url.host or ""):  # the system's own list
        return None
    variable = f"{url.scheme.upper() if proxies.get(url.scheme) else 'ALL'}_PROXY"
    if "://" not in address:
        raise ConfigurationError(
            f"{variable} has no scheme: write http://{_without_user(address)} in place of "
            f"{_without_user(address)}."
        )
    if not address.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{variable} names a {address.partition(':')[0]} proxy; only http and https proxies "
            "are supported. Set it to one, or set NO_PROXY."
        )
    try:
        proxy = URL(address)
    except ValueError:
        proxy = URL()
    if not proxy.host or not proxy.port:
        raise ConfigurationError(
            f"{variable} is not a URL such as http://proxy.example:3128; it is "
            f"{_without_user(address)!r}."
        )
    return proxy


def _without_user(address: str) -> str:
    # A password must not be shown.
    return re.sub(r"^(\w+://)?.*@", r"\1***@", address)


def is_bypassed(url: URL, no_proxy: str) -> bool:
    """
    Return whether *no_proxy*, the value of `NO_PROXY`, names the host of *url*.
    """
    return _is_listed(
        _normal(url.host or ""),
        url.port or _DEFAULT_PORTS.get(url.scheme),
        filter(None, re.split(r"[,\s]+", no_proxy)),
    )


def _is_listed(host: str, port: int | None, entries: Iterable[str]) -> bool:
    address = _address(host)
    for entry in entries:
        if entry == "*":
            return True
        name, wanted = _split(entry.lower())
        if wanted is not None and wanted != port:
            continue
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except (ValueError, TypeError):
                continue  # a host name; an address has no subdomains
        elif (name := _normal(name)) and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _split(entry: str) -> tuple[str, int | None]:
    # `[::1]:8080`, `[::1]`, `::1`, `10.0.0.0/8`, `host:8080`, `host`
    if match := re.fullmatch(r"\[(.*)\](?::(\d+))?", entry):
        return match[1], int(match[2]) if match[2] else None
    if match := re.fullmatch(r"([^:]*):(\d+)", entry):
        return match[1], int(match[2])
    return entry, None


def _normal(host: str) -> str:
    name = host.lower().removeprefix("*").strip(".")
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
