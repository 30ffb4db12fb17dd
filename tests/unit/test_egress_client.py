"""The guarded way out, against real servers on this machine.

`127.0.0.1` plays the public internet, `127.0.0.2` the inside.
"""

import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import aiohttp
import anyio
import httpx
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ctxhost.egress import (
    Egress,
    EgressError,
    EgressFailed,
    EgressPolicy,
    EgressRefused,
    EgressTimeout,
    new_client,
    read_capped,
)
from ctxhost.egress.errors import as_egress_error
from ctxhost.egress.guard import IpAddress

OUTSIDE = EgressPolicy(allow_http=True, allow_networks=(ip_network("127.0.0.1/32"),))
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEADERS = {"content-type": "application/json"}

Reply = Callable[[SocketStream], Awaitable[None]]


def saying(answer: bytes) -> Reply:
    async def reply(stream: SocketStream) -> None:
        await stream.send(answer)

    return reply


def with_headers(*lines: str, status: str = "200 OK", body: bytes = b"ok") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines, "", ""]).encode() + body


async def hang_up(stream: SocketStream) -> None:
    await stream.aclose()


async def stay_silent(stream: SocketStream) -> None:
    await anyio.sleep_forever()


@dataclass
class Receiver:
    """A server that records each request whole and answers as it is told."""

    port: int
    reply: Reply = field(default_factory=lambda: saying(OK))
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, stream: SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                while True:
                    self.requests.append(await self._request(stream))
                    await self.reply(stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def _request(self, stream: SocketStream) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields.get(b"content-length", 0)):
            body += await stream.receive()
        return head + b"\r\n\r\n" + body


@asynccontextmanager
async def receiving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Receiver]:
    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    receiver = Receiver(listener.extra(SocketAttribute.local_port))
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receiver.serve)
        yield receiver
        tasks.cancel_scope.cancel()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    async with Egress(OUTSIDE) as opened:
        yield opened


class Names:
    """A resolver that gives the next of its answers each time; the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[IpAddress]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(address) for address in answer]


async def test_a_delivery_arrives_as_it_was_signed(egress: Egress, receiver: Receiver) -> None:
    """Path, query, headers and body are sent byte for byte; the answer is reported."""
    receiver.reply = saying(with_headers("X-Seen: Yes", status="202 Accepted", body=b"thanks"))
    url = f"http://127.0.0.1:{receiver.port}/a%2Fb/../c%7e?x=%2F%3D+~&y={{z}}"

    answer = await egress.post(url, content=b'{"a": 1}', headers={"x-bb-event": "bot.done", **HEADERS})

    request = receiver.requests[0]
    assert request.startswith(b"POST /a%2Fb/../c%7e?x=%2F%3D+~&y={z} HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"a": 1}')
    assert b"x-bb-event: bot.done\r\ncontent-type: application/json\r\n" in request
    assert (202, "Yes", b"thanks") == (answer.status, answer.headers["x-seen"], answer.body)
    assert 0 <= answer.took_ms < 5_000


@pytest.mark.parametrize("suffix", ["", "/", "?x=1", "/x"])
async def test_a_url_without_a_path_asks_for_the_root(egress: Egress, receiver: Receiver, suffix: str) -> None:
    """`https://example.com` and `https://example.com?x=1` are endpoints too."""
    await egress.post(f"http://127.0.0.1:{receiver.port}{suffix}", content=b"", headers={})

    expected = suffix if suffix.startswith("/") else f"/{suffix}"
    assert receiver.requests[0].startswith(b"POST " + expected.encode() + b" HTTP/1.1\r\n")


HOSTILE = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "0"]


@pytest.mark.parametrize("host", HOSTILE)
async def test_this_machine_is_out_of_reach_by_default(receiver: Receiver, host: str) -> None:
    """However it is written, by either face, no connection is made."""
    url = f"http://{host}:{receiver.port}/"
    async with Egress(EgressPolicy(allow_http=True)) as egress:
        with pytest.raises(EgressRefused):
            await egress.post(url, content=b"", headers={})
        with pytest.raises((httpx.ConnectError, httpx.UnsupportedProtocol)):
            await egress.client.get(url)

    assert 0 == receiver.connections


async def test_plain_http_is_out_of_reach_by_default(receiver: Receiver) -> None:
    """An endpoint that was set when http was allowed is refused once it is not."""
    async with Egress(EgressPolicy(allow_networks=OUTSIDE.allow_networks)) as egress:
        with pytest.raises(EgressRefused) as caught:
            await egress.post(receiver.url, content=b"", headers={})

    assert ("https_required", 0) == (caught.value.reason, receiver.connections)


async def test_a_name_that_changes_its_address_is_checked_each_time(receiver: Receiver) -> None:
    """Public at first, inside afterwards: one attempt arrives, the next is refused, and nobody inside hears of it."""
    async with receiving("127.0.0.2", receiver.port) as inside:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        url = f"http://rebind.example:{receiver.port}/"
        async with Egress(OUTSIDE, lookup=names) as egress:
            assert 200 == (await egress.post(url, content=b"", headers={})).status
        async with Egress(OUTSIDE, lookup=names) as egress:
            with pytest.raises(EgressRefused):
                await egress.post(url, content=b"", headers={})
            with pytest.raises(httpx.ConnectError):
                await egress.client.get(url)

        assert (1, 0) == (receiver.connections, inside.connections)
        assert b"rebind.example" in receiver.requests[0]


async def test_one_lookup_serves_check_and_connection(receiver: Receiver) -> None:
    """There is no second lookup between the check and the use that could answer otherwise."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with Egress(OUTSIDE, lookup=names) as egress:
        await egress.post(f"http://rebind.example:{receiver.port}/", content=b"", headers={})

    assert (1, 1) == (names.asked, receiver.connections)


@pytest.mark.parametrize("answer", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_of_a_mixed_answer_only_the_public_address_is_used(receiver: Receiver, answer: Sequence[str]) -> None:
    """A name with one address inside works, and never by that address."""
    async with receiving("127.0.0.2", receiver.port) as inside, Egress(OUTSIDE, lookup=Names(answer)) as egress:
        await egress.post(f"http://mixed.example:{receiver.port}/", content=b"", headers={})

        assert (1, 0) == (receiver.connections, inside.connections)


async def test_a_name_with_several_addresses_inside_is_refused(receiver: Receiver) -> None:
    """Refused is what it is called, however many addresses there were to refuse."""
    url = f"http://inside.example:{receiver.port}/"
    async with Egress(OUTSIDE, lookup=Names(["127.0.0.2", "::1", "127.0.0.3"])) as egress:
        with pytest.raises(EgressRefused):
            await egress.post(url, content=b"", headers={})
        with pytest.raises(httpx.ConnectError, match="public"):
            await egress.client.get(url)


async def test_everyone_who_waits_for_a_bad_name_is_refused(receiver: Receiver) -> None:
    """Calls that share one lookup share its verdict."""
    names = Names(["127.0.0.2"])
    refused: list[EgressRefused] = []

    async def attempt(egress: Egress) -> None:
        with pytest.raises(EgressRefused) as caught:
            await egress.post(f"http://inside.example:{receiver.port}/", content=b"", headers={})
        refused.append(caught.value)

    async with Egress(OUTSIDE, lookup=names) as egress, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(attempt, egress)

    assert ["address"] * 5 == [error.reason for error in refused]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(egress: Egress, receiver: Receiver, status: str) -> None:
    """A redirect is an answer like any other, by either face."""
    receiver.reply = saying(with_headers("location: /elsewhere", status=status))

    answer = await egress.post(receiver.url, content=b"", headers={})
    response = await egress.client.get(receiver.url)

    assert (int(status[:3]), "/elsewhere") == (answer.status, answer.headers["location"])
    assert (int(status[:3]), 2) == (response.status_code, len(receiver.requests))


async def drip(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await stream.send(b"x")
        await anyio.sleep(0.01)


async def drip_headers(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\nx-long: ")
    while True:
        await stream.send(b"x")
        await anyio.sleep(0.01)


@pytest.mark.parametrize("reply", [stay_silent, drip, drip_headers])
async def test_a_slow_receiver_is_cut_at_the_total_timeout(egress: Egress, receiver: Receiver, reply: Reply) -> None:
    """Never answering, and answering a byte at a time, both end when the time is up."""
    receiver.reply = reply
    with anyio.fail_after(5), pytest.raises(EgressTimeout) as caught:
        await egress.post(receiver.url, content=b"", headers={}, timeout_s=0.1)

    assert "timeout" == caught.value.reason


async def test_a_slow_receiver_keeps_no_other_host_waiting(receiver: Receiver) -> None:
    """All connections that one host may have are stuck; another host is served at once."""
    policy = EgressPolicy(allow_http=True, allow_networks=(ip_network("127.0.0.0/8"),))
    async with receiving("127.0.0.2") as slow, Egress(policy, max_per_host=1) as egress:
        slow.reply = stay_silent

        async def wait_for_slow() -> None:
            await egress.post(f"http://127.0.0.2:{slow.port}/", content=b"", headers={}, timeout_s=60)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wait_for_slow)
            with anyio.fail_after(5):
                assert 200 == (await egress.post(receiver.url, content=b"", headers={})).status
            tasks.cancel_scope.cancel()


async def flood(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
    while True:
        await stream.send(b"x" * 65_536)


async def test_a_huge_answer_is_capped_and_its_connection_dropped(egress: Egress, receiver: Receiver) -> None:
    """The first bytes are kept, the rest is never read, and the next delivery starts afresh."""
    receiver.reply = flood
    with anyio.fail_after(5):
        answer = await egress.post(receiver.url, content=b"", headers={}, max_answer_bytes=1_000)
        receiver.reply = saying(OK)
        after = await egress.post(receiver.url, content=b"", headers={})

    assert (b"x" * 1_000, b"ok", 2) == (answer.body, after.body, receiver.connections)


async def test_a_compressed_answer_is_not_unpacked(egress: Egress, receiver: Receiver) -> None:
    """We ask for no compression; a receiver that compresses anyway gets its bytes stored as they are."""
    bomb = gzip.compress(bytes(10_000_000))
    receiver.reply = saying(with_headers("content-encoding: gzip", body=bomb))

    answer = await egress.post(receiver.url, content=b"", headers={})

    assert bomb[:16_384] == answer.body
    assert b"accept-encoding: identity\r\n" in receiver.requests[0].lower()


async def test_connections_are_kept_and_cookies_are_not(receiver: Receiver) -> None:
    """Many calls by either face share one connection, and no call tells what another was given."""
    receiver.reply = saying(with_headers("set-cookie: session=secret; path=/"))
    url = f"http://named.example:{receiver.port}/"
    async with Egress(OUTSIDE, lookup=Names(["127.0.0.1"])) as egress:
        for _ in range(2):
            await egress.post(url, content=b"", headers={})
            await egress.client.get(url)

    assert (1, 4) == (receiver.connections, len(receiver.requests))
    assert not any(b"cookie" in request.lower() for request in receiver.requests)


async def test_proxies_of_the_environment_are_ignored(
    egress: Egress, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would connect where it likes, past the guard."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert 200 == (await egress.post(receiver.url, content=b"", headers={})).status
    assert 200 == (await egress.client.get(receiver.url)).status_code


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def no_such_name(host: str, port: int) -> Sequence[IpAddress]:
    raise socket.gaierror(socket.EAI_NONAME, "unknown")


async def no_addresses(host: str, port: int) -> Sequence[IpAddress]:
    return []


FAILURES = [
    pytest.param(hang_up, "disconnected", httpx.RemoteProtocolError, id="closed-without-an-answer"),
    pytest.param(saying(b"SSH-2.0-OpenSSH\r\n\r\n"), "protocol", httpx.RemoteProtocolError, id="not-http"),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000),
        "protocol",
        httpx.RemoteProtocolError,
        id="endless-headers",
    ),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000), "protocol", httpx.RemoteProtocolError, id="endless-header"
    ),
    pytest.param(
        saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        "protocol",
        httpx.RemoteProtocolError,
        id="bad-chunk",
    ),
]


@pytest.mark.parametrize(("reply", "reason", "kind"), FAILURES)
async def test_failures_of_a_receiver(
    egress: Egress, receiver: Receiver, reply: Reply, reason: str, kind: type[httpx.HTTPError]
) -> None:
    """Each has its reason, and to httpx's users none is a connect error: the request did reach the receiver."""
    receiver.reply = reply
    with pytest.raises(EgressFailed) as caught:
        await egress.post(receiver.url, content=b"", headers={}, timeout_s=5)
    with pytest.raises(kind):
        await egress.client.post(receiver.url, content=b"x")

    assert reason == caught.value.reason


async def test_a_body_that_breaks_off(egress: Egress, receiver: Receiver) -> None:
    """Fewer bytes than announced are a failure, not a short answer."""

    async def reply(stream: SocketStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await stream.aclose()

    receiver.reply = reply
    with pytest.raises(EgressFailed):
        await egress.post(receiver.url, content=b"", headers={})
    with pytest.raises(httpx.RemoteProtocolError):
        await egress.client.get(receiver.url)


async def test_nobody_listens(egress: Egress, closed_port: int) -> None:
    """A refused connection is a connect error, and not a timeout."""
    url = f"http://127.0.0.1:{closed_port}/"
    with pytest.raises(EgressFailed) as caught:
        await egress.post(url, content=b"", headers={})
    with pytest.raises(httpx.ConnectError):
        await egress.client.get(url)

    assert "connect" == caught.value.reason


@pytest.mark.parametrize("lookup", [no_such_name, no_addresses])
async def test_a_name_without_an_address(lookup: Callable[[str, int], Awaitable[Sequence[IpAddress]]]) -> None:
    """It is its own reason: the endpoint's owner has a DNS entry to mend."""
    async with Egress(OUTSIDE, lookup=lookup) as egress:
        with pytest.raises(EgressFailed) as caught:
            await egress.post("http://nowhere.example/", content=b"", headers={})
        with pytest.raises(httpx.ConnectError):
            await egress.client.get("http://nowhere.example/")

    assert "dns" == caught.value.reason


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's TLS context for 127.0.0.1 that no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2090, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    (folder / "server.pem").write_bytes(pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context


async def answer_in_plain(stream: ByteStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(OK)


@pytest.mark.parametrize("secure", [False, True])
async def test_tls_must_be_spoken_and_trusted(egress: Egress, tmp_path: Path, secure: bool) -> None:
    """A receiver without TLS, or with a certificate that nobody trusts, is told apart from one that is down."""
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"https://127.0.0.1:{tcp.extra(SocketAttribute.local_port)}/"
    listener = TLSListener(tcp, self_signed(tmp_path)) if secure else tcp
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer_in_plain)
        with pytest.raises(EgressFailed) as caught:
            await egress.post(url, content=b"", headers={})
        with pytest.raises(httpx.ConnectError):
            await egress.client.get(url)
        tasks.cancel_scope.cancel()

    assert "tls" == caught.value.reason


@pytest.mark.parametrize("headers", [{"x": "a\r\ny: b"}, {"x\n": "a"}, {"host": "a\nb"}])
async def test_header_injection_is_refused(egress: Egress, receiver: Receiver, headers: dict[str, str]) -> None:
    """A line break in a header never becomes another header."""
    with pytest.raises(EgressFailed) as caught:
        await egress.post(receiver.url, content=b"", headers=headers)
    with pytest.raises(httpx.LocalProtocolError):
        await egress.client.get(receiver.url, headers=headers)

    assert ("request", []) == (caught.value.reason, receiver.requests)


async def test_silence_is_a_read_timeout_to_httpx(egress: Egress, receiver: Receiver) -> None:
    """After the request was sent its outcome is unknown; a connect timeout would say otherwise."""
    receiver.reply = stay_silent
    with pytest.raises(httpx.ReadTimeout):
        await egress.client.get(receiver.url, timeout=0.05)


async def test_only_http_by_httpx(egress: Egress) -> None:
    """The face for handlers has no file or ftp behind it."""
    for url in ["file:///etc/passwd", "ftp://example.com/"]:
        with pytest.raises(httpx.UnsupportedProtocol):
            await egress.client.get(url)


async def test_httpx_face_streams_both_ways(egress: Egress, receiver: Receiver) -> None:
    """Uploads may be generators; downloads can be read in pieces."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    received = b""
    async with egress.client.stream("PUT", receiver.url, content=parts(), headers={"content-length": "5"}) as response:
        async for piece in response.aiter_bytes():
            received += piece

    assert b"ok" == received
    assert receiver.requests[0].endswith(b"\r\n\r\nhello")


async def test_closing_a_client_leaves_the_pool_open(egress: Egress, receiver: Receiver) -> None:
    """Clients come and go, one for each who may change it, over the one pool."""
    for _ in range(2):
        async with new_client(egress.transport) as client:
            client.headers["authorization"] = "secret"
            assert 200 == (await client.get(receiver.url)).status_code
    await egress.client.get(receiver.url)

    assert (1, 3) == (receiver.connections, len(receiver.requests))
    assert b"authorization" not in receiver.requests[-1]


async def read(egress: Egress, url: str, limit_bytes: int) -> bytes:
    async with egress.client.stream("GET", url) as response:
        return await read_capped(response, limit_bytes=limit_bytes)


async def test_a_download_is_read_up_to_its_limit(egress: Egress, receiver: Receiver) -> None:
    """Exactly the limit is fine, one byte more is an error and not a truncated file."""
    receiver.reply = saying(with_headers(body=b"x" * 1_000))

    assert b"x" * 1_000 == await read(egress, receiver.url, 1_000)
    with pytest.raises(EgressFailed) as caught:
        await read(egress, receiver.url, 999)
    assert "too_large" == caught.value.reason


async def test_an_endless_download_ends_at_the_limit(egress: Egress, receiver: Receiver) -> None:
    """Nothing beyond the limit is waited for."""
    receiver.reply = flood
    with anyio.fail_after(5), pytest.raises(EgressFailed):
        await read(egress, receiver.url, 100_000)


async def test_the_limit_counts_unpacked_bytes(egress: Egress, receiver: Receiver) -> None:
    """A stored object that is always served compressed is read; a bomb is not."""
    receiver.reply = saying(with_headers("content-encoding: gzip", body=gzip.compress(b"hello")))
    assert b"hello" == await read(egress, receiver.url, 5)

    receiver.reply = saying(with_headers("content-encoding: gzip", body=gzip.compress(bytes(5_000_000))))
    with pytest.raises(EgressFailed) as caught:
        await read(egress, receiver.url, 1_000_000)
    assert "too_large" == caught.value.reason


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "GZIP,identity"])
async def test_encodings_that_hide_bombs_are_not_read(egress: Egress, receiver: Receiver, encoding: str) -> None:
    """Layers multiply: sixteen kilobytes of gzip in gzip unpack to gigabytes."""
    receiver.reply = saying(with_headers(f"content-encoding: {encoding}"))
    with pytest.raises(EgressFailed) as caught:
        await read(egress, receiver.url, 1_000)

    assert "encoding" == caught.value.reason


def every_kind(kind: type[Exception]) -> Iterator[type[Exception]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from every_kind(sub)


def test_every_error_of_aiohttp_is_translated() -> None:
    """None of its errors, of this version or a later one, gets past the seam."""
    kinds = [kind for kind in every_kind(aiohttp.ClientError) if kind.__module__.startswith("aiohttp")]

    assert len(kinds) > 20
    for kind in kinds:
        assert isinstance(as_egress_error(kind.__new__(kind)), EgressError), kind


def test_mistakes_of_our_own_are_not_translated() -> None:
    """A bug stays a bug."""
    assert None is as_egress_error(TypeError())
