"""Where SINK=http may send records: what a URL must look like, and which addresses are refused."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from delayed_consumer.errors import FatalError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_NAME = re.compile(r"(?=.{1,254}\Z)[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*\.?")
_URL = re.compile(r"[!-\[\]-~]+")  # printable ASCII without the backslash, which some read as a slash

# Whoever may send requests to these can read the credentials of the machine.
_METADATA_NAMES = {
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
}
_METADATA_NETWORKS = [
    ipaddress.ip_network(one)
    for one in (
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "fe80::/10",
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254",  # Google Cloud
        "fd00:42::42",  # Scaleway
    )
]
# IPv6 addresses that stand for the IPv4 address in their last 32 bits: mapped, compatible, and translated ones.
_CARRIERS = [
    ipaddress.IPv6Network(one)
    for one in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]
_NO_URL = "not a URL; write http(s)://host:port/path, an IPv6 address in brackets"
_REFUSED = "a link-local or metadata address, where a machine's credentials are: no record may go there"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(NamedTuple):
    """SINK_URL, taken apart. ``path`` has the query and is secret where that is."""

    scheme: str
    host: str  # an IPv6 address without its brackets
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_url(url: str) -> Target:
    """Takes SINK_URL apart. Raises ValueError that says what is wrong with it, without its secrets."""
    if not _URL.fullmatch(url):
        raise ValueError("must be ASCII without spaces and backslashes; write other characters percent-encoded")
    if "#" in url:
        raise ValueError("must have no fragment (#...): no server gets it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_NO_URL) from None
    _check_parts(parts, port)
    host = parts.hostname or ""
    _check_host(host)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return Target(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], path)


def is_refused(address: str) -> bool:
    """Whether no record may go to this IP address, as the resolver writes it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return any(one in network for one in (parsed, *_embedded(parsed)) for network in _METADATA_NETWORKS)


def resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """Where a connection may go: family and address of each, in the resolver's order.

    Raises:
        FatalError: there are none but refused ones.
        OSError: the name cannot be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    permitted: list[tuple[int, Any]] = [
        (family, address) for family, _, _, _, address in found if not is_refused(str(address[0]))
    ]
    if not permitted:
        raise FatalError(f"SINK_URL: {host} is {_REFUSED}")
    return permitted


def _check_parts(parts: SplitResult, port: int | None) -> None:
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("must start with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and password; give them as SINK_HTTP_USERNAME and SINK_HTTP_PASSWORD")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("a port is a number from 1 to 65535")


def _check_host(host: str) -> None:
    literal = _literal(host)
    if literal is None and not _HOST_NAME.fullmatch(host):
        raise ValueError(_NO_URL)
    if host.rstrip(".") in _METADATA_NAMES or (literal is not None and is_refused(str(literal))):
        raise ValueError(f"refused: {_REFUSED}")


def _literal(host: str) -> _Address | None:
    """The address that a host is by itself, in any notation that a resolver takes: 0xa9fea9fe, 169.254.43518."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def _embedded(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a packet to this IPv6 address may end up at."""
    if address.version == 4:
        return []
    carried = [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)] if any(address in one for one in _CARRIERS) else []
    return carried + [one for one in (address.sixtofour, *(address.teredo or ())) if one is not None]
