"""From where a key may be used: networks in CIDR notation."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from services.errors import Reason, Rejected

NETWORKS_MAX = 32
"""Of one key."""

Network = IPv4Network | IPv6Network


def networks_of(texts: Iterable[str], field: str) -> tuple[Network, ...]:
    """The networks that a request names; a bare address is a network of one.

    Raises:
        Rejected: INVALID_FIELD, also for a network with bits set beyond its mask: it is not clear what was meant.
    """
    found = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError:
            raise Rejected(
                Reason.INVALID_FIELD, f"{field} must be IP addresses or networks such as 203.0.113.0/24", field
            ) from None
    if len(found) > NETWORKS_MAX:
        raise Rejected(Reason.INVALID_FIELD, f"{field} must be at most {NETWORKS_MAX}", field)
    return tuple(dict.fromkeys(found))


def welcomes(networks: tuple[Network, ...], ip: str) -> bool:
    """Whether an address lies in one of them; none at all welcomes every address, and an unknown one ("") besides."""
    if not networks:
        return True
    if not ip:
        return False
    address = ip_address(ip)
    return any(address in network for network in networks)


def all_within(asked: tuple[Network, ...], given: tuple[Network, ...]) -> bool:
    """Whether whoever is welcome in `asked` is welcome in `given`."""
    return not given or (bool(asked) and all(any(_inside(one, other) for other in given) for one in asked))


def _inside(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.subnet_of(other)
    return isinstance(other, IPv6Network) and one.subnet_of(other)
