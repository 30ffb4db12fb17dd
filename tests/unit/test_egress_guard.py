"""The guard's own judgement: which addresses are public, which URLs may be used."""

import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.egress import LOOPBACK, EgressPolicy, UrlRefused, check_resolved, check_url, guard, is_public
from ctxhost.egress.guard import IpAddress, resolve

STRICT = EgressPolicy()
SANDBOX = EgressPolicy(allow_http=True, allow_networks=LOOPBACK)


@pytest.mark.parametrize(
    "address",
    [
        *["0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"],
        *["168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192"],
        *["192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9"],
        *["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"],
        *["::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
        *["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1"],
        *["2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254"],
        *["fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1", "::ffff:127.0.0.1%lo"],
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    """Every network that is private, local, special or carries another address inside is out."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"],
        *["198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17", "126.255.255.255", "128.0.0.0"],
        *["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2001:200::1", "::ffff:8.8.8.8"],
    ],
)
def test_addresses_that_are_public(address: str) -> None:
    """The neighbours of every network that is out are in."""
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("", "scheme", id="empty"),
        pytest.param("example.com/hook", "scheme", id="no-scheme"),
        pytest.param("//example.com/hook", "scheme", id="no-scheme-but-slashes"),
        pytest.param("file:///etc/passwd", "scheme", id="file"),
        pytest.param("gopher://example.com/", "scheme", id="gopher"),
        pytest.param("data:text/plain,x", "scheme", id="data"),
        pytest.param("ftp://example.com/", "scheme", id="ftp"),
        pytest.param("https:example.com", "host", id="no-slashes"),
        pytest.param("https:///hook", "host", id="no-host"),
        pytest.param("https://:443/", "host", id="port-only"),
        pytest.param("https://example.com:/", "host", id="empty-port"),
        pytest.param("https://example.com:port/", "host", id="port-not-a-number"),
        pytest.param("https://example.com:+443/", "host", id="port-with-sign"),
        pytest.param("https://example.com:0/", "port", id="port-0"),
        pytest.param("https://example.com:65536/", "port", id="port-65536"),
        pytest.param("https://example.com:22/", "port", id="ssh"),
        pytest.param("https://example.com:25/", "port", id="smtp"),
        pytest.param("https://example.com:6379/", "port", id="redis"),
        pytest.param("https://8.8.8.8:5432/", "port", id="postgres-at-a-public-address"),
        pytest.param("https://" + "a" * 2_041 + "/", "too_long", id="2049-characters-and-more"),
        pytest.param("https://example.com/" + "a" * 10_000, "too_long", id="10-KB"),
        pytest.param("https://good@127.0.0.1/", "userinfo", id="userinfo"),
        pytest.param("https://user:pass@example.com/", "userinfo", id="password"),
        pytest.param("https://a\\@b/", "characters", id="backslash"),
        pytest.param("https://example.com\\.evil.com/", "characters", id="backslash-in-host"),
        pytest.param("https://example.com/a b", "characters", id="space"),
        pytest.param(" https://example.com/", "characters", id="leading-space"),
        pytest.param("https://exam\tple.com/", "characters", id="tab"),
        pytest.param("https://example.com/\r\nx: y", "characters", id="newline"),
        pytest.param("https://example.com/\x00", "characters", id="nul"),
        pytest.param("https://еxample.com/", "characters", id="cyrillic-homograph"),
        pytest.param("https://①②⑦.⓪.⓪.①/", "characters", id="circled-digits"),
        pytest.param("https://127。0。0。1/", "characters", id="ideographic-full-stops"),
        pytest.param("https://１２７.0.0.1/", "characters", id="full-width-digits"),
        pytest.param("https://example.com/#@127.0.0.1/", "fragment", id="fragment"),
        pytest.param("https://example.com#", "fragment", id="empty-fragment"),
        pytest.param("https://exa%6dple.com/", "host", id="percent-in-host"),
        pytest.param("https://a..b/", "host", id="empty-label"),
        pytest.param("https://-a.com/", "host", id="label-starts-with-hyphen"),
        pytest.param("https://" + "a" * 64 + ".com/", "host", id="long-label"),
        pytest.param("https://" + "a." * 127 + "com/", "host", id="long-name"),
        pytest.param("https://1.2.3.256/", "host", id="octet-256"),
        pytest.param("https://1.2.3.4.5/", "host", id="five-octets"),
        pytest.param("https://example.1/", "host", id="numeric-last-label"),
        pytest.param("https://[::1]evil.com/", "host", id="text-after-bracket"),
        pytest.param("https://[fe80::1%eth0]/", "host", id="scope"),
        pytest.param("https://[fe80::1%25eth0]/", "host", id="encoded-scope"),
        pytest.param("https://[1:2]/", "malformed", id="short-v6"),
        pytest.param("https://[::1/", "malformed", id="open-bracket"),
        pytest.param("https://[v1.x]/", "host", id="ip-future"),
        pytest.param("https://127.0.0.1/", "address", id="loopback"),
        pytest.param("https://127.0.0.1./", "address", id="trailing-dot"),
        pytest.param("https://2130706433/", "address", id="decimal"),
        pytest.param("https://0x7f000001/", "address", id="hex"),
        pytest.param("https://0x7f.1/", "address", id="hex-short"),
        pytest.param("https://0X7F.1/", "address", id="hex-capital"),
        pytest.param("https://0177.0.0.1/", "address", id="octal"),
        pytest.param("https://017700000001/", "address", id="octal-whole"),
        pytest.param("https://127.1/", "address", id="short"),
        pytest.param("https://0/", "address", id="zero"),
        pytest.param("https://0.0.0.0/", "address", id="any"),
        pytest.param("https://169.254.169.254/latest/meta-data/", "address", id="metadata"),
        pytest.param("https://2852039166/", "address", id="metadata-decimal"),
        pytest.param("https://[::]/", "address", id="v6-any"),
        pytest.param("https://[::1]:8080/", "address", id="v6-loopback"),
        pytest.param("https://[::ffff:127.0.0.1]/", "address", id="v4-mapped"),
        pytest.param("https://[::ffff:7f00:1]/", "address", id="v4-mapped-hex"),
        pytest.param("https://[64:ff9b::7f00:1]/", "address", id="nat64"),
        pytest.param("https://[2002:7f00:1::]/", "address", id="6to4"),
        pytest.param("https://[fd00:ec2::254]/", "address", id="v6-metadata"),
        pytest.param("http://example.com/hook", "https_required", id="http"),
    ],
)
def test_hostile_urls_are_refused_with_the_reason(url: str, reason: str) -> None:
    """Before anything is asked of the network, each is refused, and for what is wrong with it."""
    with pytest.raises(UrlRefused) as caught:
        check_url(url, STRICT)
    assert reason == caught.value.reason_code
    assert caught.value.message == str(caught.value) != ""


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", 443),
        ("https://example.com/", "example.com", 443),
        ("HTTPS://Example.COM/Path?x=%2F#".rstrip("#"), "example.com", 443),
        ("https://example.com.:8443/a/../b//?q=a@b&c=:", "example.com.", 8443),
        ("https://xn--bcher-kva.example/hook", "xn--bcher-kva.example", 443),
        ("https://my_app.example.com:3000?x", "my_app.example.com", 3000),
        ("https://1.example.com/", "1.example.com", 443),
        ("https://a0x1.fa/", "a0x1.fa", 443),
        ("https://8.8.8.8/", "8.8.8.8", 443),
        ("https://[2606:4700:4700::1111]:8443/", "2606:4700:4700::1111", 8443),
        ("https://example.com/" + "a" * 2_028, "example.com", 443),
    ],
)
def test_ordinary_urls_pass(url: str, host: str, port: int) -> None:
    """What people really use as an endpoint is taken as it is."""
    parsed = check_url(url, STRICT)

    assert (url, host, port) == (parsed.url, parsed.host, parsed.port)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "localhost"])
def test_sandbox_allows_loopback_over_http(host: str) -> None:
    """On a laptop one's own machine is the receiver, on any port."""
    assert 8080 == check_url(f"http://{host}:8080/fn/meetings-webhook", SANDBOX).port


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://[::2]/", "http://169.254.169.254/", "http://0.0.0.0/"])
def test_an_opened_network_opens_nothing_else(url: str) -> None:
    """Loopback allowed does not mean private allowed."""
    with pytest.raises(UrlRefused, match="public"):
        check_url(url, SANDBOX)


def test_operator_may_open_networks() -> None:
    """An opened network is reachable on every port; the same port elsewhere is not."""
    policy = EgressPolicy(allow_networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))

    assert 81 == check_url("https://10.1.2.3:81/", policy).port
    assert 81 == check_url("https://[fd00::1]:81/", policy).port
    for refused in ["https://10.2.0.1/", "https://8.8.8.8:81/"]:
        with pytest.raises(UrlRefused):
            check_url(refused, policy)


_HOSTS = st.one_of(
    st.text("0123456789abcdefx.", min_size=1, max_size=14),
    st.lists(st.sampled_from(["0", "127", "0x7f", "0177", "1", "255", "10", "", "8"]), min_size=1, max_size=5).map(
        ".".join
    ),
    st.text("0123456789abcdef:.%", min_size=2, max_size=20).map(lambda inside: f"[{inside}]"),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=4).map(str),
    st.integers(0, 2**32).map(str),
    st.integers(0, 2**32).map(hex),
)


@given(host=_HOSTS)
def test_no_spelling_of_an_address_gets_past(host: str) -> None:
    """Whatever the system's own resolver takes for an address that is not public, check_url refuses."""
    try:
        parsed = check_url(f"https://{host}/", STRICT)
    except UrlRefused:
        return
    try:
        found = socket.getaddrinfo(parsed.host, 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return
    assert all(is_public(ip_address(place[0])) for *_, place in found)


class Names:
    """A resolver with answers of our own."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[IpAddress]:
        self.asked.append((host, port))
        if host.partition(".")[0] not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [ip_address(address) for address in self.answers[host.partition(".")[0]]]


NAMES = Names(
    good=["93.184.215.14", "2606:4700::1"],
    private=["10.0.0.7"],
    mixed=["93.184.215.14", "127.0.0.1"],
    metadata=["169.254.169.254"],
)


@pytest.mark.parametrize("host", ["private.example.com", "mixed.example.com", "metadata.google.internal"])
async def test_names_of_addresses_that_are_not_public_are_refused(host: str) -> None:
    """A name is only as good as the worst address behind it."""
    with pytest.raises(UrlRefused) as caught:
        await check_resolved(f"https://{host}/hook", STRICT, lookup=NAMES)
    assert "address" == caught.value.reason_code


@pytest.mark.parametrize("host", ["good.example.com", "not-yet.example.com", "8.8.8.8"])
async def test_public_and_unknown_names_pass(host: str) -> None:
    """A name that does not resolve yet may be configured."""
    assert host == (await check_resolved(f"https://{host}/hook", STRICT, lookup=NAMES)).host


async def test_a_bad_url_is_not_looked_up() -> None:
    """Nobody uses the check to ask our resolver for them with a URL that is refused anyway."""
    names = Names()
    with pytest.raises(UrlRefused):
        await check_resolved("ftp://good.example.com/", STRICT, lookup=names)
    assert [] == names.asked


async def test_the_system_resolver_is_asked() -> None:
    """`localhost` is found to be this machine, so it is refused; in the sandbox it is allowed."""
    with pytest.raises(UrlRefused):
        await check_resolved("https://localhost/", STRICT)
    assert "localhost" == (await check_resolved("http://localhost:8080/", SANDBOX)).host


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\ud800"])
async def test_what_cannot_be_a_name_has_no_address(host: str) -> None:
    """Nonsense is an OSError like any other name without an address."""
    with pytest.raises(OSError, match="not a host name"):
        await resolve(host, 80)


async def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that never answers costs its own caller a few seconds, and no thread is waited for."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(5))
    monkeypatch.setattr(guard, "LOOKUP_TIMEOUT_S", 0.02)
    try:
        with anyio.fail_after(2), pytest.raises(socket.gaierror, match="in time"):
            await resolve("slow.example.com", 80)
    finally:
        released.set()
