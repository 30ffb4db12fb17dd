"""Which URLs and addresses a request of ours may go to. The networks are the union of Svix's and smokescreen's."""

import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

import anyio

from ctxhost.errors import CtxhostError

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Awaitable[Sequence[IpAddress]]]
"""Host name and port to addresses; raises `OSError` when there are none."""

LOOPBACK: tuple[IpNetwork, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
MAX_URL_CHARS = 2_048
LOOKUP_TIMEOUT_S = 5

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform service: a public number that only its machines reach
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Of IPv6 only global unicast is public: loopback, v4-compatible, NAT64, local, link-local, multicast and what is not
# given out yet need no line of their own.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)
# Ports of services that an HTTP request can be made to talk to.
_OTHER_PROTOCOLS = frozenset(
    {1433, 1521, 2049, 2375, 3306, 3389, 4190, 5060, 5061, 5432, 5900, 6000, 6379, 6566, *range(6665, 6670), 6679, 6697}
    | {11211, 27017}
)
_NETLOC = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
# In anyio's default pool of threads, lookups that hang would keep everything else waiting.
_LOOKUPS = anyio.CapacityLimiter(64)


class UrlRefused(CtxhostError):
    """A URL that may not be used; `reason_code` for machines, `message` for people."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What this host may reach beyond https to public addresses."""

    allow_http: bool = False
    allow_networks: tuple[IpNetwork, ...] = ()

    def permits(self, address: IpAddress, *, port: int) -> bool:
        """Whether a connection to this address and port may be made."""
        plain = _canonical(address)
        if any(plain in network for network in self.allow_networks):
            return True
        return is_public(plain) and _is_web_port(port)


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """A URL that passed `check_url`; `address` is set when its host is a literal address."""

    url: str
    scheme: str
    host: str
    port: int
    address: IpAddress | None


def is_public(address: IpAddress) -> bool:
    """Whether anyone on the internet could reach this address as well as we can."""
    plain = _canonical(address)
    if isinstance(plain, IPv4Address):
        return not any(plain in network for network in _NOT_PUBLIC_V4)
    return plain in _GLOBAL_UNICAST and not any(plain in network for network in _NOT_PUBLIC_V6)


def check_url(url: str, policy: EgressPolicy) -> ParsedUrl:
    """Everything that can be said of a URL without asking the network.

    Raises:
        UrlRefused: with reason_code `too_long`, `characters`, `malformed`, `scheme`, `https_required`, `userinfo`,
            `fragment`, `host`, `port` or `address`.
    """
    parts = _split(url)
    if parts.scheme not in ("http", "https"):
        raise UrlRefused("scheme", "The URL must start with https:// or http://.")
    if parts.scheme == "http" and not policy.allow_http:
        raise UrlRefused("https_required", "The URL must start with https://.")
    if "@" in parts.netloc:
        raise UrlRefused("userinfo", "The URL must not contain a user name or password.")
    if "#" in url:
        raise UrlRefused("fragment", "The URL must not have a fragment (#…); it would never be sent.")
    host, port = _host_and_port(parts)
    address = _literal_address(host)
    if address is not None and not policy.permits(address, port=port):
        raise _refused_address(address, port)
    if address is None and not _is_web_port(port):
        raise UrlRefused("port", f"Port {port} is not one for web servers.")
    return ParsedUrl(url, parts.scheme, host, port, address)


async def resolve(host: str, port: int) -> Sequence[IpAddress]:
    """All addresses of a name, from the system's resolver.

    Raises:
        OSError: no addresses, not a name, or no answer in 5 seconds.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        with anyio.fail_after(LOOKUP_TIMEOUT_S):
            found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_LOOKUPS)
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from exc
    except TimeoutError as exc:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from exc
    return [ip_address(str(place[0])) for family, *_, place in found if family in (socket.AF_INET, socket.AF_INET6)]


async def check_resolved(url: str, policy: EgressPolicy, *, lookup: Lookup = resolve) -> ParsedUrl:
    """`check_url`, and every address that the host's name has now. A name that does not resolve (yet) passes.

    Raises:
        UrlRefused: as `check_url`; reason_code `address` also for a name with an address that may not be reached.
    """
    parsed = check_url(url, policy)
    if parsed.address is not None:
        return parsed
    try:
        addresses = await lookup(parsed.host, parsed.port)
    except OSError:
        return parsed
    for address in addresses:
        if not policy.permits(address, port=parsed.port):
            raise _refused_address(address, parsed.port)
    return parsed


def _canonical(address: IpAddress) -> IpAddress:
    """The IPv4 address inside an IPv4-mapped one; without a scope, which no network contains."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _is_web_port(port: int) -> bool:
    return port in (80, 443) or (port >= 1_024 and port not in _OTHER_PROTOCOLS)


def _refused_address(address: IpAddress, port: int) -> UrlRefused:
    if is_public(address):
        return UrlRefused("port", f"Port {port} is not one for web servers.")
    return UrlRefused("address", "The URL's host is not a public address.")


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARS:
        raise UrlRefused("too_long", f"The URL must have at most {MAX_URL_CHARS} characters.")
    # Parsers disagree about backslashes, spaces and look-alikes, and disagreement is how a check is passed by.
    if not all("!" <= character <= "~" and character != "\\" for character in url):
        raise UrlRefused(
            "characters",
            "The URL must be ASCII without spaces or backslashes; write a host as xn--… and the rest percent-encoded.",
        )
    try:
        return urlsplit(url)
    except ValueError:
        raise UrlRefused("malformed", "This is not a URL.") from None


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    found = _NETLOC.fullmatch(parts.netloc)
    if found is None:
        raise UrlRefused("host", "The URL has no valid host and port.")
    host, digits = (found["address"] or found["name"]).lower(), found["port"]
    if digits is None:
        return host, 443 if parts.scheme == "https" else 80
    if not 1 <= int(digits) <= 65_535:
        raise UrlRefused("port", "The URL's port must be a number from 1 to 65535.")
    return host, int(digits)


def _literal_address(host: str) -> IpAddress | None:
    """The address that a host stands for in any form that resolvers take for one; None for a name."""
    if ":" in host:
        try:
            return ip_address(host)
        except ValueError:
            raise UrlRefused("host", "The URL's host is not an address.") from None
    if not _HOST_NAME.fullmatch(host) or len(host) > 253:
        raise UrlRefused("host", "The URL's host is not a name.")
    bare = host.removesuffix(".")
    if not _NUMERIC_LABEL.fullmatch(bare.rpartition(".")[2]):
        return None
    try:
        # Takes 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 for what they are.
        return IPv4Address(socket.inet_aton(bare))
    except OSError:
        raise UrlRefused("host", "The URL's host is not an address.") from None
