"""Connect to public addresses alone, unless params.yaml says otherwise.

A list of URLs is a stranger's: one may name the router, a service of this machine, or a cloud's metadata. A name is
resolved once, and what was checked is what is connected to, so that its owner cannot answer otherwise in between.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

TRANSLATED = ip_network("64:ff9b::/96")  # IPv6 addresses that a gateway turns into the IPv4 address at their end


class PrivateAddressError(OSError):
    """Tell that a URL leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the internet: not private, of this machine, of its network or reserved."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in TRANSLATED else None)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def literal(host: str) -> str | None:
    """Return the IP address that a URL gives in place of a name, in any of its spellings; None for a name."""
    host = host.strip("[]")
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # 2130706433, 0x7f.1, 127.1
    except OSError:
        return None


def require_public_name(host: str) -> None:
    """Check a host without asking a resolver, as far as that goes: a proxy does the rest.

    Raises:
        PrivateAddressError: it is this machine, or an IP address that is not public.
    """
    address = literal(host)
    if host.rstrip(".").lower() in ("", "localhost") or (address and not is_public(address)):
        raise PrivateAddressError(f"{host} is a private address; download.private_addresses allows them")


def connect_public(place: tuple[str, int], timeout: float, source: tuple[str, int] | None = None) -> socket.socket:
    """Connect as socket.create_connection does, to the first public address of a host that answers.

    Raises:
        PrivateAddressError: it has addresses, and none is public.
        OSError: no connection.
    """
    host, port = place
    found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    public = [address for address in found if is_public(str(address))]
    error: OSError = PrivateAddressError(f"{host} is at the private address {found[0]}")
    for address in dict.fromkeys(public):
        try:
            return socket.create_connection((str(address), port), timeout, source)
        except OSError as failed:
            error = failed
    raise error
