"""A stand for the API: a real host on a file of its own, its clock moved by hand, two owners and their apps."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
from tests.api.scripted import DeletingProvider, Offering

from ctxhost.clock import ManualClock
from ctxhost.egress.guard import LOOPBACK
from ctxhost.host import Host
from ctxhost.settings import EgressSettings, Settings
from ctxhost.store.rows import App

BASE_URL = "http://host.test"
RING = "k1:" + base64.b64encode(b"k" * 32).decode()
GOOD = {"meetingUrl": "https://zoom.us/j/1234567890"}
USD = 1_000_000_000


def settings_in(folder: Path, **more: Any) -> Settings:
    """Settings of a host that lives in a folder, may reach loopback and counts no calls."""
    told: dict[str, Any] = {
        "database": folder / "ctxhost.db",
        "data_dir": folder / "data",
        "base_url": BASE_URL,
        "encryption_keys": RING,
        "rate_limits": False,
        "egress": EgressSettings(allow_http=True, allow_networks=LOOPBACK),
    }
    return Settings(**{**told, **more})


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, once its shape is proven."""
    body = response.json()
    assert ["error"] == list(body)
    error = cast("dict[str, Any]", body["error"])
    assert all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code", "remediation"))
    assert "application/json" == response.headers["content-type"]
    assert response.headers["x-request-id"].startswith("req_")
    return error


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return response.status_code, error_of(response)["code"]


@dataclass
class Stand:
    """A host with an owner of two apps, and another owner."""

    host: Host
    clock: ManualClock
    provider: DeletingProvider
    client: httpx.AsyncClient
    """Without credentials."""
    app: App
    sister: App
    """Of the same owner as `app`."""
    stranger: App
    """Of another owner, who has no credit."""
    key: str
    stranger_key: str

    @property
    def bots(self) -> str:
        return f"/v1/{self.app.id}/ai/meetings"

    @property
    def webhook(self) -> str:
        return f"{self.bots}/webhook"

    @property
    def auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A call with the owner's key."""
        headers = {**self.auth, **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    async def start(self, **more: Any) -> dict[str, Any]:
        """A bot that was started, as it was answered."""
        response = await self.call("POST", self.bots, json={**GOOD, **more})
        assert 200 == response.status_code, response.text
        return cast("dict[str, Any]", response.json())

    async def get(self, bot: str) -> dict[str, Any]:
        return cast("dict[str, Any]", (await self.call("GET", f"{self.bots}/{bot}")).json())

    async def held(self) -> int:
        """What the owner's account holds, in nano-dollars."""
        return (await self.host.ledger.balance(self.app.account)).account.held

    async def work(self, *, seconds: int) -> None:
        """Let time pass, a second at a time, doing what falls due."""
        for _ in range(seconds):
            self.clock.advance(seconds=1)
            await self.host.jobs.run_due()


OpenStand = Callable[..., Awaitable[Stand]]


@asynccontextmanager
async def opened_stand(
    folder: Path, clock: ManualClock, *, offered: Sequence[object] | None = None, **settings: Any
) -> AsyncIterator[Stand]:
    """A stand in a folder; settings by name. the plugin `offered` if none is given is that of `stand.provider`."""
    provider = DeletingProvider()
    plugins = [Offering(provider)] if offered is None else offered
    async with (
        Host(settings_in(folder, **settings), plugins=plugins, clock=clock, work=False) as host,
        httpx.AsyncClient(transport=httpx.ASGITransport(host.asgi), base_url=BASE_URL) as client,
    ):
        yield await _furnished(host, clock, provider, client)


async def _furnished(host: Host, clock: ManualClock, provider: DeletingProvider, client: httpx.AsyncClient) -> Stand:
    owner = await host.ledger.open_account("owner")
    other = await host.ledger.open_account("other")
    await host.credits.grant(owner.id, 5 * USD, key="first")
    return Stand(
        host=host,
        clock=clock,
        provider=provider,
        client=client,
        app=await host.tenants.create_app(owner.id, "Notes", subdomain="notes"),
        sister=await host.tenants.create_app(owner.id, "Sister"),
        stranger=await host.tenants.create_app(other.id, "Stranger"),
        key=(await host.tenants.create_key(owner.id, name="main"))[0],
        stranger_key=(await host.tenants.create_key(other.id))[0],
    )
