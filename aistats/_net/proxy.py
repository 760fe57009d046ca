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

from .._errors import ConfigurationError

__all__ = ("environment_proxy", "is_bypassed")

_DEFAULT_PORTS = {"http": 80, "https": 443}


def environment_proxy(url: URL) -> URL | None:
    """
    Return the proxy for *url*, or `None`. It comes from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`
    and `NO_PROXY`, in upper or lower case, or from the system's settings.

    aiohttp's `trust_env` is not used, because it reads the settings again for each request, in a
    thread, and lets `.netrc` replace the key.

    Raises:
        ConfigurationError: The proxy's address can't be used.
    """
    proxies = urllib.request.getproxies()
    address = (proxies.get(url.scheme) or proxies.get("all") or "").strip()
    if not address:
        return None
    if "no" in proxies:
        if is_bypassed(url, proxies["no"]):
            return None
    elif urllib.request.proxy_bypass(url.host or ""):  # the system's own list
        return None
    variable = f"{url.scheme.upper() if proxies.get(url.scheme) else 'ALL'}_PROXY"
    scheme, is_given, rest = address.rpartition("://")
    if not is_given:
        bare = _without_user(rest.lstrip("/"))
        raise ConfigurationError(
            f"{variable} has no scheme: write http://{bare} in place of {_without_user(address)}."
        )
    if scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"{variable} names a {scheme} proxy; only http and https proxies are supported. Set it "
            "to one, or set NO_PROXY."
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
    # Hides the user name and the password, for error messages.
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
    addresses = _addresses(host)
    for entry in entries:
        if entry == "*":
            return True
        name, wanted = _split(entry.lower())
        if wanted is not None and wanted != port:
            continue
        if addresses:
            try:
                network = ipaddress.ip_network(name.rstrip("."), strict=False)
            except ValueError:
                continue  # a host name; an address has no subdomains
            if any(address in network for address in addresses):
                return True
        elif (name := _normal(name)) and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _split(entry: str) -> tuple[str, int | None]:
    # `[::1]:8080`, `[::1]`, `::1`, `10.0.0.0/8`, `host:8080`, `host`
    if match := re.fullmatch(r"\[(.*)\](/\d+)?(?::(\d+))?", entry):
        return match[1] + (match[2] or ""), int(match[3]) if match[3] else None
    if match := re.fullmatch(r"([^:]*):(\d+)", entry):
        return match[1], int(match[2])
    return entry, None


def _normal(host: str) -> str:
    name = host.lower().removeprefix("*").strip(".")
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    # An IPv4-mapped IPv6 address counts as both. A host name has no addresses.
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return []
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return [address] if mapped is None else [address, mapped]
