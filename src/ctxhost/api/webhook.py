"""An app's webhook over HTTP: where its events go, and what became of each."""

from typing import Any, Final

from starlette.responses import Response

from ctxhost.api import cursor, models
from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.examples import DELIVERY
from ctxhost.api.pages import ListPage, parse_page
from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, Operation
from ctxhost.clock import rfc3339
from ctxhost.store.rows import Attempt, Endpoint, Message
from ctxhost.tenants.service import SCOPE_AI
from ctxhost.webhooks.commands import TEST_EVENT, DeliveryNotFound, EndpointNotFound
from ctxhost.webhooks.requests import PutWebhook, parse_webhook
from ctxhost.webhooks.service import Delivered

WEBHOOK: Final = "/v1/{app_id}/ai/meetings/webhook"


async def put(call: HostCall) -> Response:
    asked = parse_webhook(await call.json())
    done = await call.host.webhooks.put(call.caller.app, asked)
    url = done.endpoint.url
    return json_response({"ok": True, "app_id": call.caller.app.id, "forward_url": url, "secret": done.secret})


async def get(call: HostCall) -> Response:
    return json_response(_endpoint(await call.host.webhooks.get(call.caller.app.id)))


async def delete(call: HostCall) -> Response:
    await call.host.webhooks.delete(call.caller.app)
    return Response(status_code=204)


async def test(call: HostCall) -> Response:
    return json_response(_owed(await call.host.webhooks.test(call.caller.app)), status=202)


async def resend(call: HostCall) -> Response:
    message = await call.host.webhooks.resend(call.caller.app, call.path("delivery_id"))
    return json_response(_owed(message), status=202)


async def deliveries(call: HostCall) -> Response:
    asked = parse_page(call.query())
    before = cursor.decode(asked.cursor, tuple[int, str], int, str) if asked.cursor is not None else None
    found = await call.host.webhooks.deliveries(call.caller.app.id, before=before, limit=asked.limit + 1)
    page = found[: asked.limit]
    last = page[-1].message if len(found) > asked.limit else None
    next_cursor = cursor.encode((last.created_ms, last.id)) if last else None
    return json_response({"deliveries": [_delivery(delivered) for delivered in page], "nextCursor": next_cursor})


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    failing = "failing" if endpoint.failing_since_ms else "active"
    return {
        "app_id": endpoint.id,
        "forward_url": endpoint.url,
        "events": endpoint.events.split(),
        "status": "disabled" if endpoint.disabled_ms else failing,
        "failing_since": _time(endpoint.failing_since_ms),
        "disabled_at": _time(endpoint.disabled_ms),
        "updated_at": rfc3339(endpoint.updated_ms),
    }


def _delivery(delivered: Delivered) -> dict[str, Any]:
    message = delivered.message
    return {
        "id": message.id,
        "event": message.event,
        "bot_id": None if message.event == TEST_EVENT else message.bot,
        "state": message.state,
        "created_at": rfc3339(message.created_ms),
        "done_at": _time(message.done_ms),
        "attempts": [_attempt(attempt) for attempt in delivered.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": rfc3339(attempt.at_ms),
        "url": attempt.url,
        "status": attempt.status or None,
        "outcome": attempt.outcome,
        "answer": attempt.answer,
        "took_ms": attempt.took_ms,
    }


def _owed(message: Message) -> dict[str, str]:
    return {"id": message.id, "event": message.event, "state": message.state}


def _time(ms: int) -> str | None:
    return rfc3339(ms) if ms else None


_OWED: Final = Answer(
    description="It is queued; the list of deliveries tells what becomes of it.",
    model=models.Owed,
    example={"id": DELIVERY["id"], "event": "bot.done", "state": "queued"},
)

OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="PUT",
        path=WEBHOOK,
        name="putWebhook",
        handler=put,
        summary="Say where events go",
        description="Makes a signing secret when there is none, or when `rotate_secret` is true. It is shown once."
        " For a day after a rotation, deliveries are signed with the old secret too.",
        tag="webhook",
        answers={
            200: Answer(
                description="The endpoint.",
                model=models.WebhookPut,
                example={
                    "ok": True,
                    "app_id": "app_abc123",
                    "forward_url": "https://your-app.example.com/recall/events",
                    "secret": "wsec_…",
                },
            )
        },
        body=PutWebhook,
        body_example={"forward_url": "https://your-app.example.com/recall/events", "rotate_secret": True},
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=WEBHOOK,
        name="getWebhook",
        handler=get,
        summary="Ask where events go",
        tag="webhook",
        answers={
            200: Answer(
                description="The endpoint, without its secret.",
                model=models.Webhook,
                example={
                    "app_id": "app_abc123",
                    "forward_url": "https://your-app.example.com/recall/events",
                    "events": ["bot.done", "transcript.done"],
                    "status": "active",
                    "failing_since": None,
                    "disabled_at": None,
                    "updated_at": "2026-06-11T19:17:51.204Z",
                },
            )
        },
        refusals=[EndpointNotFound],
        scope=SCOPE_AI,
    ),
    Operation(
        method="DELETE",
        path=WEBHOOK,
        name="deleteWebhook",
        handler=delete,
        summary="Stop sending events",
        description="What is still owed is given up. The next PUT makes a new secret.",
        tag="webhook",
        answers={204: Answer(description="There is no endpoint any more.", media_type=None)},
        scope=SCOPE_AI,
    ),
    Operation(
        method="POST",
        path=f"{WEBHOOK}/test",
        name="testWebhook",
        handler=test,
        summary="Send a test event",
        description=f"Sends `{TEST_EVENT}`, signed like every other event.",
        tag="webhook",
        answers={202: _OWED},
        refusals=[EndpointNotFound],
        scope=SCOPE_AI,
    ),
    Operation(
        method="GET",
        path=f"{WEBHOOK}/deliveries",
        name="listDeliveries",
        handler=deliveries,
        summary="List what was sent, and what came of it",
        tag="webhook",
        answers={
            200: Answer(
                description="A page of deliveries.",
                model=models.DeliveryList,
                example={"deliveries": [DELIVERY], "nextCursor": None},
            )
        },
        query=ListPage,
        scope=SCOPE_AI,
    ),
    Operation(
        method="POST",
        path=f"{WEBHOOK}/deliveries/{{delivery_id}}/resend",
        name="resendDelivery",
        handler=resend,
        summary="Send an event once more",
        description="With the same `webhook-id`, to the endpoint as it is now.",
        tag="webhook",
        answers={202: _OWED},
        refusals=[DeliveryNotFound, EndpointNotFound],
        scope=SCOPE_AI,
    ),
]
