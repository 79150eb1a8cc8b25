"""Who is on the other side of a connection."""

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from services.runtime.config import host_port

PEERS_CACHED_MAX: Final = 10_000


@lru_cache(maxsize=PEERS_CACHED_MAX)
def ip_of(peer: str) -> str:
    """The IP of an address as gRPC ("ipv4:10.0.0.1:5001") or the shim ("10.0.0.1") names it; "" where it has none."""
    text = unquote(peer.removeprefix("ipv4:").removeprefix("ipv6:"))
    for bare in (text, _host(text)):
        try:
            address = ipaddress.ip_address(bare)
        except ValueError:
            continue
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    return ""


def _host(text: str) -> str:
    try:
        return host_port(text).host
    except ValueError:
        return ""
