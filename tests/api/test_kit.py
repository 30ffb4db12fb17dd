"""The kit that the API is written with: one shape of error, one order of refusals, one declaration per route."""

import json
import logging
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Scope

from ctxhost.api.docs_page import docs_page, documentation
from ctxhost.api.middleware import LINGER_BYTES, Edge
from ctxhost.api.openapi import openapi_document
from ctxhost.api.problems import json_response
from ctxhost.api.routing import ANY, Answer, Call, HeaderParam, Operation, build_router
from ctxhost.errors import BotNotFound, InsufficientCredits, MissingCredentials, Overloaded, ProviderUnavailable
from ctxhost.meetings.requests import ListBots, StartBot, parse_list, parse_start

LIMIT_BYTES = 1_000
CHUNK = b"x" * 1024 * 1024
BOTS = "/v1/app_1/bots"
KEY = {"authorization": "Bearer bb_sk_1"}
GOOD = {"meetingUrl": "https://zoom.us/j/1"}


class Bot(BaseModel):
    """A bot, as it is told."""

    id: str
    status: str
    url: str | None = None


class Bots(BaseModel):
    """A page of bots."""

    bots: list[Bot]


@dataclass
class Host:
    """What the handlers of the demo work on."""

    heard: list[str] = field(default_factory=list)


DemoCall = Call[Host, str]
DemoOperation = Operation[Host, str]


async def start(call: DemoCall) -> Response:
    asked = parse_start(await call.json(), now_ms=0)
    call.host.heard.append(f"{call.caller} starts on {asked.platform} in {call.path('app_id')}")
    return json_response({"id": "b1", "status": "joining"})


async def list_bots(call: DemoCall) -> Response:
    return json_response({"bots": [], "limit": parse_list(call.query()).limit})


async def get_bot(call: DemoCall) -> Response:
    raise BotNotFound(f"There is no bot {call.path('bot_id')}.")


async def stop(_: DemoCall) -> Response:
    return Response(status_code=204)


async def usage(_: DemoCall) -> Response:
    return json_response({"rows": []}, headers={"x-request-id": "forged"})


async def status(call: DemoCall) -> Response:
    return json_response({"available": True, "request_id": call.request.state.request_id})


async def crash(_: DemoCall) -> Response:
    raise RuntimeError("the secret is hunter2")


async def break_off(_: DemoCall) -> Response:
    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("broken off")

    return StreamingResponse(half())


async def poor(_: DemoCall) -> Response:
    raise InsufficientCredits(required_nano_usd=65_000_000, available_nano_usd=20_000_000)


async def full(_: DemoCall) -> Response:
    raise Overloaded(retry_after_s=7)


async def echo(call: DemoCall) -> Response:
    return Response((await call.body()) + await call.body())


async def anything(call: DemoCall) -> Response:
    return json_response({"method": call.request.method, "rest": call.path("rest")})


async def no_caller(call: DemoCall) -> Response:
    return json_response({"caller": call.caller})


ONE = {200: Answer(description="The bot.", model=Bot, example={"id": "b1", "status": "joining"})}
PLAIN = {200: Answer(description="An object.", example={})}


def op(method: str, path: str, name: str, handler: Any, **more: Any) -> DemoOperation:
    told = {"summary": f"{name} <b>now</b>", "tag": "demo", "answers": PLAIN, "max_body_bytes": LIMIT_BYTES}
    return Operation(method=method, path=path, name=name, handler=handler, **{**told, **more})


OPERATIONS: list[DemoOperation] = [
    # The parameter is declared before its fixed sisters on purpose.
    op("GET", "/v1/{app_id}/bots/{bot_id}", "getBot", get_bot, answers=ONE, refusals=[BotNotFound]),
    op(
        "DELETE",
        "/v1/{app_id}/bots/{bot_id}",
        "stopBot",
        stop,
        answers={204: Answer(description="It leaves.", media_type=None)},
    ),
    op("GET", "/v1/{app_id}/bots/usage", "usage", usage),
    op(
        "POST",
        "/v1/{app_id}/bots",
        "startBot",
        start,
        answers=ONE,
        body=StartBot,
        body_example={**GOOD, "botName": "it's"},
        scope="ai:gateway",
        refusals=[ProviderUnavailable, InsufficientCredits],
        description="Sends `a bot`.\n\nAt once.",
        headers=[
            HeaderParam(name="Idempotency-Key", description="Start once.", schema={"type": "string", "maxLength": 255})
        ],
    ),
    op(
        "GET",
        "/v1/{app_id}/bots",
        "listBots",
        list_bots,
        query=ListBots,
        answers={200: Answer(description="A page.", model=Bots, example={"bots": []})},
    ),
    op("GET", "/v1/bots/_status", "status", status, auth="none"),
    op("GET", "/crash", "crash", crash, auth="none"),
    op("GET", "/half", "half", break_off, auth="none"),
    op("GET", "/poor", "poor", poor, auth="none"),
    op("GET", "/full", "full", full, auth="none"),
    op("GET", "/nobody", "nobody", no_caller, auth="none"),
    op("POST", "/echo", "echo", echo, auth="none"),
    op(ANY, "/fn/{rest:path}", "anything", anything, auth="none", listed=False),
]


async def authorize(request: Request, operation: DemoOperation) -> str:
    if request.headers.get("authorization") != KEY["authorization"]:
        raise MissingCredentials(f"{operation.name} needs a key.")
    return "owner"


def describe() -> dict[str, Any]:
    return openapi_document(
        OPERATIONS, title="Demo & <co>", version="1.2.3", description="All of `it`.",
        path_parameters={"app_id": "The app.", "bot_id": "The bot."}, tags={"demo": "Everything."},
    )  # fmt: skip


def build(host: Host) -> Edge:
    return Edge(build_router([*OPERATIONS, *documentation(describe())], host=host, authorize=authorize))


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def client(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build(host))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as opened:
        yield opened


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, once its shape is proven."""
    body = response.json()
    assert ["error"] == list(body)
    error = cast("dict[str, Any]", body["error"])
    assert all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code", "remediation"))
    assert "application/json" == response.headers["content-type"]
    assert response.headers["x-request-id"].startswith("req_")
    return error


async def test_a_handler_gets_host_caller_path_and_body(client: httpx.AsyncClient, host: Host) -> None:
    """A call carries all that its handler works on."""
    response = await client.post("/v1/app_7/bots", headers=KEY, json=GOOD)

    assert 200 == response.status_code
    assert ["owner starts on zoom in app_7"] == host.heard


async def test_fixed_segments_win_over_parameters(client: httpx.AsyncClient) -> None:
    """The order of declaration does not decide which route a path belongs to."""
    assert {"rows": []} == (await client.get(f"{BOTS}/usage", headers=KEY)).json()
    assert "bot_not_found" == error_of(await client.get(f"{BOTS}/b1", headers=KEY))["code"]
    assert (await client.get("/v1/bots/_status")).json()["available"]


@pytest.mark.parametrize(
    ("method", "path", "status_code", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v2/app_1/bots", 404, "not_found"),
        ("GET", f"{BOTS}/", 404, "not_found"),
        ("GET", f"/{BOTS}", 404, "not_found"),
        ("GET", "/v1//bots", 404, "not_found"),
        ("GET", "/v1/bots/_status%0a", 404, "not_found"),
        ("GET", f"{BOTS}/%00", 404, "not_found"),
        ("GET", f"{BOTS}/a%2fb", 404, "not_found"),
        ("GET", f"{BOTS}/%ff", 404, "not_found"),
        ("GET", f"{BOTS}/{'x' * 5_000}", 404, "bot_not_found"),
        ("PATCH", BOTS, 405, "method_not_allowed"),
        ("OPTIONS", BOTS, 405, "method_not_allowed"),
        ("BREW", BOTS, 405, "method_not_allowed"),
        ("GET", "/crash", 500, "internal_error"),
        ("GET", "/poor", 402, "insufficient_credits"),
        ("GET", "/full", 503, "overloaded"),
    ],
)
async def test_every_failure_has_one_shape(
    client: httpx.AsyncClient, method: str, path: str, status_code: int, code: str
) -> None:
    """Unknown routes, wrong methods, refusals and crashes all answer alike."""
    response = await client.request(method, path, headers=KEY)

    assert (status_code, code) == (response.status_code, error_of(response)["code"])


async def test_a_wrong_method_is_told_the_right_ones(client: httpx.AsyncClient) -> None:
    """405 carries Allow, before anything is asked of the caller; HEAD goes with GET."""
    assert "GET, HEAD, POST" == (await client.put(BOTS)).headers["allow"]
    assert "POST" == (await client.get("/echo")).headers["allow"]
    assert 200 == (await client.head("/v1/bots/_status")).status_code


async def test_any_method_reaches_an_operation_for_any(client: httpx.AsyncClient) -> None:
    """The rest of a path may hold slashes, and the method is whatever it is."""
    response = await client.request("PURGE", "/fn/a/b")

    assert {"method": "PURGE", "rest": "a/b"} == response.json()


async def test_a_refusal_carries_its_facts_and_headers(client: httpx.AsyncClient) -> None:
    """Numbers stay JSON numbers, and Retry-After is a header."""
    error = error_of(await client.get("/poor"))

    assert (0.065, 0.02) == (error["required_usd"], error["available_usd"])
    assert "7" == (await client.get("/full")).headers["retry-after"]


async def test_a_crash_tells_nothing_and_is_logged(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is in the log under the request id, and nowhere else."""
    response = await client.get("/crash")

    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert "hunter2" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


async def test_a_crash_outside_the_router_has_the_same_shape() -> None:
    """Also what breaks before any route is found is answered."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("early")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(broken)), base_url="http://api.test") as client:
        assert "internal_error" == error_of(await client.get("/"))["code"]


async def test_half_an_answer_is_broken_off(client: httpx.AsyncClient) -> None:
    """Once a response has begun no second one is sent: the server has to break the connection."""
    with pytest.raises(RuntimeError, match="broken off"):
        await client.get("/half")


async def test_every_response_has_a_request_id_of_ours(client: httpx.AsyncClient) -> None:
    """Neither the caller nor a handler chooses it; it is new each time, and the handler knows it."""
    first = await client.get("/v1/bots/_status", headers={"x-request-id": "forged"})
    second = await client.get(f"{BOTS}/usage", headers=KEY)

    assert first.json()["request_id"] == first.headers["x-request-id"]
    assert [second.headers["x-request-id"]] == second.headers.get_list("x-request-id")
    assert 3 == len({first.headers["x-request-id"], second.headers["x-request-id"], "forged"})


async def chunks(count: int, size: int, taken: list[int]) -> AsyncIterator[bytes]:
    for _ in range(count):
        taken.append(size)
        yield b" " * size


async def test_a_body_over_the_limit_is_refused_once_it_is() -> None:
    """Without a Content-Length the stream is counted; the answer is out before another byte is asked for."""
    events: list[str] = []

    async def receive() -> Message:
        events.append("receive")
        return {"type": "http.request", "body": b"x" * 400, "more_body": len(events) < 20}

    async def send(message: Message) -> None:
        events.append(message["type"])

    await build(Host())(post("/echo"), receive, send)

    assert ["receive"] * 3 + ["http.response.start", "http.response.body"] == events[:5]
    assert "http.response.body" == events[-1]


async def test_a_sender_without_end_is_cut_off() -> None:
    """After the refusal a bounded amount is thrown away, then the connection is closed."""
    taken_bytes = 0

    async def receive() -> Message:
        nonlocal taken_bytes
        taken_bytes += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    sent = await answer_to("POST", "/echo", receive)

    assert 413 == sent[0]["status"]
    assert (b"connection", b"close") in sent[0]["headers"]
    assert [True, False] == [message["more_body"] for message in sent[1:]]
    assert LINGER_BYTES <= taken_bytes <= LINGER_BYTES + 2 * len(CHUNK)


@pytest.mark.parametrize("length", [b"1001", b"9" * 5_000])
async def test_a_declared_length_over_the_limit_is_refused_unread(length: bytes) -> None:
    """With a Content-Length the answer comes first; a sender that waits for leave to send never gets it."""

    async def receive() -> Message:
        raise AssertionError("the body was read")

    headers = [(b"content-length", length), (b"expect", b"100-continue")]

    assert 413 == (await answer_to("POST", "/echo", receive, headers=headers))[0]["status"]


async def test_a_body_at_the_limit_is_read_once(client: httpx.AsyncClient) -> None:
    """The limit is inclusive, chunked or not, and a handler may ask for the body again."""
    taken: list[int] = []

    assert 2 * LIMIT_BYTES == len((await client.post("/echo", content=b"x" * LIMIT_BYTES)).content)
    assert 2 * LIMIT_BYTES == len((await client.post("/echo", content=chunks(10, 100, taken))).content)
    assert 413 == (await client.post("/echo", content=chunks(11, 100, taken))).status_code


async def test_an_encoded_body_is_refused_as_json(client: httpx.AsyncClient) -> None:
    """No decoder runs, so no small body can become a large one; who takes raw bytes gets them as they came."""
    response = await client.post(
        BOTS, content=b"\x1f\x8b", headers={**KEY, "content-encoding": "gzip", "content-type": "application/json"}
    )

    assert 400 == response.status_code
    assert ["content-encoding"] == error_of(response)["details"][0]["path"]
    assert 200 == (await client.post(BOTS, json=GOOD, headers={**KEY, "content-encoding": "Identity"})).status_code
    assert b"\x1f\x8b" * 2 == (await client.post("/echo", content=b"\x1f\x8b")).content


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        pytest.param({}, b"x" * 2_000, "missing_credentials", id="credentials-before-size"),
        pytest.param({}, b"{", "missing_credentials", id="credentials-before-validation"),
        pytest.param(KEY, b"{" * 2_000, "payload_too_large", id="size-before-validation"),
        pytest.param(KEY, b"{", "invalid_request", id="validation"),
    ],
)
async def test_refusals_come_in_order(
    client: httpx.AsyncClient, host: Host, headers: dict[str, str], body: bytes, code: str
) -> None:
    """Who is calling, then how much, then what."""
    assert code == error_of(await client.post(BOTS, content=body, headers=headers))["code"]
    assert [] == host.heard


async def test_a_stranger_does_not_make_us_read() -> None:
    """Without a key not a byte of the body is asked for."""

    async def receive() -> Message:
        raise AssertionError("the body was read")

    sent = await answer_to("POST", BOTS, receive)

    assert 401 == sent[0]["status"]


async def test_an_open_operation_has_no_caller(client: httpx.AsyncClient) -> None:
    """Asking for the caller where none is proven is a fault of the handler, not an anonymous caller."""
    assert "internal_error" == error_of(await client.get("/nobody"))["code"]


@pytest.mark.parametrize(
    ("query", "path", "code"),
    [
        ("limit=0", ["limit"], "too_small"),
        ("limit=1&limit=1", ["limit"], "duplicate"),
        ("x=", ["x"], "unknown_field"),
        ("=", [""], "unknown_field"),
        ("limit=", ["limit"], "invalid_type"),
        ("limit=%31%30%31", ["limit"], "too_big"),
        ("cursor=%ff", ["query"], "invalid_encoding"),
        ("cursor=%00", ["cursor"], "invalid_string"),
        ("&".join(f"k{n}=1" for n in range(101)), ["query"], "invalid_encoding"),
    ],
)
async def test_a_bad_query_is_refused_by_name(
    client: httpx.AsyncClient, query: str, path: list[str], code: str
) -> None:
    """Every pair of the query string is looked at, decoded strictly."""
    details = error_of(await client.get(f"{BOTS}?{query}", headers=KEY))["details"]

    assert [(path, code)] == [(detail["path"], detail["code"]) for detail in details]


async def test_a_client_that_goes_away_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and then nothing: no answer, and nothing above debug in the log."""
    messages: Iterator[Message] = iter(
        [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Message:
        return next(messages)

    assert [] == await answer_to("POST", "/echo", receive)
    assert [] == [record for record in caplog.records if record.levelno > logging.DEBUG]
    with pytest.raises(StopIteration):
        next(messages)


async def test_what_is_not_http_is_left_alone() -> None:
    """A websocket is closed, since none is served."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await build(Host())({"type": "websocket", "path": "/x", "headers": []}, receive, send)

    assert ["websocket.close"] == [message["type"] for message in sent]


FIELDS = st.sampled_from(["meetingUrl", "botName", "metadata", "joinAt", "recording"]) | st.text()
VALUES = st.recursive(
    st.none() | st.text() | st.integers() | st.floats(),
    lambda inner: st.dictionaries(FIELDS, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=8,
)
BODIES = st.binary(max_size=1_200) | VALUES.map(lambda value: json.dumps(value).encode())


@given(BODIES, st.sampled_from([BOTS, "/echo", "/v1/x/bots/usage"]))
@settings(max_examples=200, deadline=None)
async def test_no_bytes_make_a_5xx(body: bytes, path: str) -> None:
    """Whatever is posted is an answer or a refusal, never a crash."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build(Host())), base_url="http://api.test") as client:
        response = await client.post(path, content=body, headers=KEY)

    assert response.status_code < 500
    assert 400 > response.status_code or error_of(response)


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=200, deadline=None)
async def test_no_path_or_query_makes_a_5xx(path: str, query: str) -> None:
    """Nor does whatever stands in the URL."""
    sent = await answer_to(
        "GET", f"{BOTS}/{path}", nothing, headers=[(b"authorization", b"Bearer bb_sk_1")], query=query
    )

    assert sent[0]["status"] < 500


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def answer_to(
    method: str, path: str, receive: Any, *, headers: list[tuple[bytes, bytes]] | None = None, query: str = ""
) -> list[Message]:
    """What the demo sends for a raw ASGI request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {**post(path), "method": method, "headers": headers or [], "query_string": query.encode()}
    await build(Host())(scope, receive, send)
    return sent


def post(path: str) -> Scope:
    return {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name == "$ref")
        yield from (found for item in value.values() for found in references(item))
    elif isinstance(value, list):
        yield from (found for item in value for found in references(item))


def test_the_document_is_valid_and_every_reference_leads_somewhere() -> None:
    """A tool that reads OpenAPI 3.1 reads ours."""
    document = describe()
    found = set(references(document))

    schemathesis.openapi.from_dict(document).validate()
    assert "3.1.0" == document["openapi"]
    assert "#/components/schemas/StartBot" in found
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_the_document_is_deterministic() -> None:
    """The same operations give the same bytes, so that a change of it is a change of the API."""
    assert json.dumps(describe()) == json.dumps(describe())


def test_the_document_says_what_the_declaration_says() -> None:
    """Parameters, body, security and every status that can come, from one declaration."""
    told = describe()["paths"]["/v1/{app_id}/bots"]
    start_bot, listing = told["post"], told["get"]

    assert [{"serviceKey": ["ai:gateway"]}] == start_bot["security"]
    assert ["app_id", "Idempotency-Key"] == [parameter["name"] for parameter in start_bot["parameters"]]
    assert {"$ref": "#/components/schemas/StartBot"} == start_bot["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert ["200", "400", "401", "402", "403", "404", "413", "429", "500", "501", "503"] == list(start_bot["responses"])
    assert ["not_authorized", "insufficient_scope"] == list(
        start_bot["responses"]["403"]["content"]["application/json"]["examples"]
    )
    assert {
        "name": "limit",
        "in": "query",
        "required": False,
        "description": "How many bots at most.",
        "schema": {"default": 20, "maximum": 100, "minimum": 1, "type": "integer"},
    } in listing["parameters"]
    assert "413" not in listing["responses"]


def test_unlisted_operations_are_not_told() -> None:
    """The document has the operations that are meant to be read about, and no others."""
    paths = describe()["paths"]

    assert "/fn/{rest}" not in paths
    assert "/docs" not in paths


def test_an_undescribed_parameter_is_a_fault() -> None:
    """Nothing goes out without a word about it."""
    with pytest.raises(KeyError, match="app_id"):
        openapi_document(OPERATIONS, title="", version="", description="", path_parameters={}, tags={"demo": ""})


@pytest.mark.parametrize("second", [op("GET", "/crash", "other", crash), op("PUT", "/other", "crash", crash)])
def test_an_operation_declared_twice_is_a_fault(second: DemoOperation) -> None:
    """A name, and a method of a path, belong to one operation."""
    with pytest.raises(ValueError, match="declared twice"):
        build_router([*OPERATIONS, second], host=Host(), authorize=authorize)


class Outline(HTMLParser):
    """What a test asks of the page: is every element closed, where do links lead, does it load anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "wbr"):
            self.open.append(tag)
        for name, value in attrs:
            target = {"id": self.ids, "href": self.links, "src": self.sources}.get(name)
            if target is not None:
                target.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()


def test_the_page_is_sound_and_stands_alone() -> None:
    """Well-formed, nothing loaded from elsewhere, every inner link has its target, ids are unique."""
    outline = Outline()
    outline.feed(docs_page(describe()))

    assert [] == outline.open
    assert [] == outline.sources
    assert sorted(set(outline.ids)) == sorted(outline.ids)
    assert {"openapi.json"} == {link for link in outline.links if link.removeprefix("#") not in outline.ids}


def test_the_page_tells_everything_and_escapes_it() -> None:
    """Each operation, field and code is there; markup in a text is text."""
    page = docs_page(describe())

    for expected in (
        "Demo &amp; &lt;co&gt;",
        "startBot &lt;b&gt;now&lt;/b&gt;",
        "Idempotency-Key",
        "waitingRoomTimeoutSec",
        "insufficient_credits",
        "method_not_allowed",
        "<code>a bot</code>",
        "ai:gateway",
    ):
        assert expected in page
    assert "<b>now" not in page


def test_the_curl_line_can_be_pasted() -> None:
    """A shell reads the example as one command whose body is the JSON of the example."""
    page = Outline()
    page.feed(docs_page(describe()))
    [line] = [text for text in page.texts if text.startswith("curl -X POST") and "/bots" in text]
    words = [word for word in shlex.split(line) if word != "\n"]

    assert ["curl", "-X", "POST", "$BASE_URL/v1/$APP_ID/bots"] == words[:4]
    assert {**GOOD, "botName": "it's"} == json.loads(words[-1])


async def test_the_document_and_the_page_are_served(client: httpx.AsyncClient) -> None:
    """Both are open to all; the page may run and load nothing."""
    page = await client.get("/docs")

    assert describe() == (await client.get("/openapi.json")).json()
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_a_disconnect_is_what_the_body_raises() -> None:
    """A handler that reads from a client that is gone hears so."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    call = Call(Request({"type": "http", "headers": []}, receive), OPERATIONS[0], Host())
    with pytest.raises(ClientDisconnect):
        await call.body()
