"""The door for providers' webhooks."""

from typing import Final

from starlette.responses import Response

from ctxhost.api.auth import HostCall, HostOperation
from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, Operation
from ctxhost.meetings.inbound import BadProviderSignature

MAX_WEBHOOK_BYTES: Final = 256 * 1024


async def receive(call: HostCall) -> Response:
    body, headers, provider = await call.body(), call.request.headers, call.path("provider")
    host = call.host
    await host.background.finish(lambda: host.inbound.receive(provider, headers, body))
    return json_response({"ok": True})


OPERATIONS: Final[list[HostOperation]] = [
    Operation(
        method="POST",
        path="/v1/ai/meetings/_webhooks/{provider}",
        name="receiveProviderWebhook",
        handler=receive,
        summary="Receive a provider's webhook",
        tag="service",
        answers={200: Answer(description="It is kept.", example={"ok": True})},
        refusals=[BadProviderSignature],
        auth="none",
        max_body_bytes=MAX_WEBHOOK_BYTES,
        listed=False,
    )
]
