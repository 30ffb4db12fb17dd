"""Functions over HTTP: how they are found, who may call them, and what becomes of whatever they do."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.api.stand import OpenStand, Stand, error_of, refusal

Handler = Callable[[Request, Any], Awaitable[object]]


async def who(_: Request, ctx: Any) -> object:
    return {"app": ctx.app.id, "caller": ctx.caller and ctx.caller.key_name}


async def echo(request: Request, _: Any) -> object:
    return Response(await request.body(), headers={"x-method": request.method})


def served(stand: Stand, handler: Handler, **more: Any) -> str:
    """Register a handler as `/f` of the app; gives its path."""
    stand.host.functions.register(stand.app.id, "f", handler, **{"auth": "none", **more})
    return f"/v1/{stand.app.id}/fn/f"


def credentials(stand: Stand, name: str) -> Mapping[str, str]:
    return {
        "nothing": {},
        "owner": stand.auth,
        "stranger": {"authorization": f"Bearer {stand.stranger_key}"},
        "invalid": {"authorization": "Bearer bb_sk_nobody"},
        "other": {"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"},
    }[name]


@pytest.mark.parametrize(
    ("auth", "given", "expected"),
    [
        ("required", "nothing", "missing_credentials"),
        ("required", "other", "missing_credentials"),
        ("required", "invalid", "invalid_api_key"),
        ("required", "stranger", "not_authorized"),
        ("required", "owner", {"caller": "main"}),
        ("optional", "nothing", {"caller": None}),
        ("optional", "other", {"caller": None}),
        ("optional", "invalid", "invalid_api_key"),
        ("optional", "stranger", "not_authorized"),
        ("optional", "owner", {"caller": "main"}),
        ("none", "nothing", {"caller": None}),
        ("none", "other", {"caller": None}),
        ("none", "invalid", {"caller": None}),
        ("none", "stranger", {"caller": None}),
        ("none", "owner", {"caller": None}),
    ],
)
async def test_the_trigger_says_who_may_call(stand: Stand, auth: str, given: str, expected: Any) -> None:
    """Every kind of trigger against every kind of credentials."""
    path = served(stand, who, auth=auth)
    response = await stand.client.post(path, headers=credentials(stand, given))

    if isinstance(expected, str):
        assert expected == error_of(response)["code"]
    else:
        assert {"app": stand.app.id, **expected} == response.json()


async def test_a_registered_function_asks_for_a_key_unless_told_otherwise(stand: Stand) -> None:
    """`required` is what a trigger means that does not say."""
    stand.host.functions.register(stand.app.id, "f", who)

    assert (401, "missing_credentials") == refusal(await stand.client.post(f"/v1/{stand.app.id}/fn/f"))


async def test_method_and_path_bind(stand: Stand) -> None:
    """A path that no function has is 404, another method of one that has is 405 with the right one in Allow."""
    served(stand, who, method="GET", path="/notes/all")
    base = f"/v1/{stand.app.id}/fn"
    wrong = await stand.client.post(f"{base}/notes/all")

    assert 200 == (await stand.client.get(f"{base}/notes/all")).status_code
    assert ((405, "method_not_allowed"), "GET") == (refusal(wrong), wrong.headers["allow"])
    for path in ("/nothing", "/notes", "/notes/all/", "/", ""):
        assert 404 == (await stand.client.get(f"{base}{path}")).status_code
    assert (404, "function_not_found") == refusal(await stand.client.get(f"{base}/nothing"))
    assert (404, "app_not_found") == refusal(await stand.client.get("/v1/app_nowhere/fn/nothing"))


async def test_two_methods_of_one_path_are_two_functions(stand: Stand) -> None:
    """Each method reaches its own; Allow names both."""
    for method in ("GET", "PUT"):

        async def handler(_: Request, __: Any, method: str = method) -> object:
            return method

        stand.host.functions.register(stand.app.id, method.lower(), handler, method=method, path="/x", auth="none")
    path = f"/v1/{stand.app.id}/fn/x"

    assert ("GET", "PUT") == ((await stand.client.get(path)).text, (await stand.client.put(path)).text)
    assert "GET, PUT" == (await stand.client.delete(path)).headers["allow"]


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("notes.host.test", "app"),
        ("NOTES.host.test:8787", "app"),
        ("notes.elsewhere.example", "app"),
        ("{app}.api.example", "app"),
        ("{sister}.api.example", None),
        ("app_nowhere.api.example", None),
        ("unknown.host.test", "default"),
        ("host.test", "default"),
        ("127.0.0.1:8787", "default"),
        ("[::1]:8787", "default"),
        ("notes", "default"),
        ("[", "default"),
        ("", "default"),
    ],
)
async def test_the_host_name_leads_to_an_app(open_stand: OpenStand, authority: str, expected: str | None) -> None:
    """Its first label is a subdomain or an app id; any other name leads to the default app, if there is one."""
    stand = await open_stand(default_app="app_default")
    default = await stand.host.tenants.create_app(stand.app.account, "Default", app="app_default")
    for app in (stand.app, default):
        stand.host.functions.register(app.id, "f", who, auth="none")
    named = authority.replace("{app}", stand.app.id).replace("{sister}", stand.sister.id)
    response = await stand.client.post("/fn/f", headers={"host": named})

    if expected is None:
        assert 404 == response.status_code
    else:
        assert (stand.app if expected == "app" else default).id == response.json()["app"]


async def test_without_a_default_app_an_unknown_name_leads_nowhere(stand: Stand) -> None:
    """Not to some other tenant's functions."""
    served(stand, who)

    assert (404, "app_not_found") == refusal(await stand.client.post("/fn/f", headers={"host": "unknown.host.test"}))
    assert 200 == (await stand.client.post("/fn/f", headers={"host": "notes.host.test"})).status_code


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe", b'{"a": 1, "a": 2}', b"x" * 1_000_000])
async def test_a_handler_gets_the_bytes_that_were_sent(stand: Stand, body: bytes) -> None:
    """Untouched, whatever the headers say of them."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = await stand.client.post(served(stand, echo), content=body, headers=headers)

    assert (200, body) == (response.status_code, response.content)


async def test_a_body_has_a_limit(open_stand: OpenStand) -> None:
    """The operator's, for functions as for every other call."""
    stand = await open_stand(max_body_bytes=1_024)
    path = served(stand, echo)

    assert 200 == (await stand.client.post(path, content=b"x" * 1_024)).status_code
    assert (413, "payload_too_large") == refusal(await stand.client.post(path, content=b"x" * 1_025))


async def test_a_stream_can_be_read_as_one(stand: Stand) -> None:
    """`request.stream()` and `request.json()` work as Starlette documents them; the end comes once."""

    async def handler(request: Request, _: Any) -> object:
        chunks = [chunk async for chunk in request.stream()]
        return {"chunks": len([chunk for chunk in chunks if chunk])}

    async def reader(request: Request, _: Any) -> object:
        assert await request.json() == await request.json()
        return await request.json()

    assert {"chunks": 1} == (await stand.client.post(served(stand, handler), content=b"abc")).json()
    assert {"a": [1]} == (await stand.client.post(served(stand, reader), json={"a": [1]})).json()


@pytest.mark.parametrize(
    ("result", "media_type", "expected"),
    [
        ({"a": "ü"}, "application/json", '{"a":"ü"}'.encode()),
        ([1, None], "application/json", b"[1,null]"),
        ("hi", "text/plain; charset=utf-8", b"hi"),
        (PlainTextResponse("hi", 418), "text/plain; charset=utf-8", b"hi"),
    ],
)
async def test_what_a_handler_returns_is_answered(
    stand: Stand, result: object, media_type: str, expected: bytes
) -> None:
    """A dict or list as JSON, a string as text, a response as it is."""

    async def handler(*_: Any) -> object:
        return result

    response = await stand.client.post(served(stand, handler))

    assert (media_type, expected) == (response.headers["content-type"], response.content)
    assert (418 if isinstance(result, Response) else 200) == response.status_code


@pytest.mark.parametrize("result", [None, 7, b"bytes", {"a": float("nan")}, {"a": object()}, object()])
async def test_what_is_no_response_is_a_failure(stand: Stand, result: object) -> None:
    """The caller hears that the handler failed, and no more."""

    async def handler(*_: Any) -> object:
        return result

    assert (500, "handler_error") == refusal(await stand.client.post(served(stand, handler)))


async def test_a_handlers_failure_is_logged_and_not_told(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """500, the traceback in the log, nothing of it in the answer."""

    async def handler(*_: Any) -> object:
        raise RuntimeError("the secret is hunter2")

    response = await stand.client.post(served(stand, handler))

    assert (500, "handler_error") == refusal(response)
    assert "hunter2" not in response.text
    assert "hunter2" in caplog.text


async def test_a_handler_has_a_time(stand: Stand) -> None:
    """When it is over the handler is cancelled and the caller told."""
    ended = anyio.Event()

    async def handler(*_: Any) -> object:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return "too late"

    assert (504, "handler_timeout") == refusal(await stand.client.post(served(stand, handler, timeout_s=0)))
    assert ended.is_set()


async def test_a_refusal_in_a_handler_is_the_handlers_failure(stand: Stand) -> None:
    """What `ctx.ai` raises is for the handler to catch: its own caller is not the one who lacks credit."""

    async def handler(_: Request, ctx: Any) -> object:
        await ctx.ai.meetings.get("nobody")
        raise AssertionError

    assert (500, "handler_error") == refusal(await stand.client.post(served(stand, handler)))


async def test_headers_of_the_answer_are_the_handlers_but_for_the_request_id(stand: Stand) -> None:
    """Cookies and all; the id in `ctx.request` is the one that the caller sees, and nobody can set it."""

    async def handler(request: Request, ctx: Any) -> object:
        response = PlainTextResponse(f"{ctx.request.id} {ctx.request.method} {ctx.request.path}")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers["x-request-id"] = "forged"
        return response

    path = served(stand, handler)
    response = await stand.client.post(path)

    assert f"{response.headers['x-request-id']} POST {path}" == response.text
    assert 2 == len(response.headers.get_list("set-cookie"))


async def test_a_head_of_a_get_function_is_not_invented(stand: Stand) -> None:
    """Only the method that the trigger names."""
    path = served(stand, who, method="GET")

    assert 405 == (await stand.client.head(path)).status_code


async def test_inside_calls_do_not_use_up_an_addresss_tries(open_stand: OpenStand) -> None:
    """A handler with a wrong key, calling the host's own URL over and over, shuts nobody out."""
    stand = await open_stand(rate_limits=True)

    async def handler(_: Request, ctx: Any) -> object:
        url = f"{ctx.env['BUTTERBASE_API_URL']}{stand.bots}"
        answers = [await ctx.http.get(url, headers={"authorization": "Bearer bb_sk_wrong"}) for _ in range(40)]
        return {"statuses": sorted({answer.status_code for answer in answers})}

    assert {"statuses": [401]} == (await stand.client.post(served(stand, handler))).json()


async def test_a_log_line_carries_the_request(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """`ctx.log` says which app, which function and which call."""

    async def handler(_: Request, ctx: Any) -> object:
        ctx.log.info("hello %s", "log")
        return {}

    with caplog.at_level(logging.INFO, logger="ctxhost.functions"):
        response: httpx.Response = await stand.client.post(served(stand, handler))
    [line] = [record for record in caplog.records if record.getMessage() == "hello log"]

    assert (stand.app.id, "f", response.headers["x-request-id"]) == (
        vars(line)["app"],
        vars(line)["function"],
        vars(line)["request_id"],
    )
