"""`ctx`: everything that the host gives a handler."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from ctxhost.ai.namespace import AI
from ctxhost.functions.appdb import AppDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInfo:
    """The app that a handler belongs to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerInfo:
    """Who calls, proven by a service key; only its first characters are shown."""

    key_hint: str
    key_name: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The call that a handler answers. `id` is the response's `x-request-id`."""

    id: str
    method: str
    path: str
    received_at: str


class Context:
    """What a handler is given as `ctx`. The same object inside a handler and from `host.context()`."""

    def __init__(
        self,
        *,
        app: AppInfo,
        env: Mapping[str, str],
        db: AppDatabase,
        ai: AI,
        log: "logging.LoggerAdapter[logging.Logger]",
        make_http: Callable[[], httpx.AsyncClient],
        run_after: Callable[[Coroutine[Any, Any, object]], None],
        caller: CallerInfo | None = None,
        request: RequestInfo | None = None,
    ) -> None:
        self._app = app
        self._env = env
        self._db = db
        self._ai = ai
        self._log = log
        self._make_http = make_http
        self._run_after = run_after
        self._caller = caller
        self._request = request
        self._http: httpx.AsyncClient | None = None

    @property
    def app(self) -> AppInfo:
        """The app."""
        return self._app

    @property
    def env(self) -> Mapping[str, str]:
        """The app's values, then the function's, then `BUTTERBASE_API_URL` and `BUTTERBASE_APP_ID`."""
        return self._env

    @property
    def db(self) -> AppDatabase:
        """The app's own database: `await ctx.db.query("SELECT … WHERE id = $1", [id])` gives `rows`, `row_count`."""
        return self._db

    @property
    def ai(self) -> AI:
        """Meeting bots and what else the host has providers for, paid from the app's account."""
        return self._ai

    @property
    def http(self) -> httpx.AsyncClient:
        """An HTTP client that reaches public addresses only; the host's own base URL is answered in process."""
        if self._http is None:
            self._http = self._make_http()
        return self._http

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger; its lines carry the app, the function and the request."""
        return self._log

    @property
    def caller(self) -> CallerInfo | None:
        """Who calls, or None for a call without a key."""
        return self._caller

    @property
    def request(self) -> RequestInfo | None:
        """The call being answered, or None outside a handler."""
        return self._request

    def wait_until(self, work: Coroutine[Any, Any, object]) -> None:
        """Let a coroutine run on after the answer, for at most 30 seconds. What it raises is logged."""
        self._run_after(work)

    async def aclose(self) -> None:
        """Close what was opened. The host does it after a handler; `async with host.context(…)` does it too."""
        if self._http is not None:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
