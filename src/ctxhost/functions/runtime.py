"""The face of functions: deploy an app folder, give a ctx, call a handler."""

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import Response

from ctxhost.ai.namespace import AI
from ctxhost.background import Background
from ctxhost.clock import Clock, rfc3339
from ctxhost.functions.appdb import AppDatabase, Databases
from ctxhost.functions.context import AppInfo, CallerInfo, Context, RequestInfo
from ctxhost.functions.invoke import invoke
from ctxhost.functions.manifest import HttpTrigger
from ctxhost.functions.registry import DEFAULT_TIMEOUT_S, Deployment, Function, HandlerFunction, Registry, read_folder
from ctxhost.logs import carrying
from ctxhost.observe import FunctionRecord, Watch
from ctxhost.store.rows import App, ServiceKey
from ctxhost.tenants.service import Tenants

log = logging.getLogger("ctxhost.functions")

WAIT_UNTIL_S = 30


class Functions:
    """The functions of every app of a host."""

    def __init__(
        self,
        *,
        tenants: Tenants,
        databases: Databases,
        background: Background,
        clock: Clock,
        base_url: str,
        make_ai: Callable[[App], AI],
        make_http: Callable[[], httpx.AsyncClient],
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._tenants = tenants
        self._databases = databases
        self._background = background
        self._clock = clock
        self._base_url = base_url
        self._make_ai = make_ai
        self._make_http = make_http
        self.registry = Registry()

    async def deploy(self, app: App) -> Deployment:
        """Read the app's folder, bring its database to its schema, and serve its functions from now on.

        Raises:
            ManifestError, SchemaError, HandlerLoadError: it cannot be used; what was served before still is.
        """
        deployment = await read_folder(app.id, Path(app.folder))
        if deployment.schema is not None:
            database = await self.database(app)
            for change in await database.apply_schema(deployment.schema):
                log.info("%s: %s", app.id, change)
        for warning in deployment.manifest.warnings():
            log.warning("%s: %s", app.id, warning)
        self.registry.deploy(app.id, deployment)
        return deployment

    def register(
        self,
        app: str,
        name: str,
        handler: HandlerFunction,
        *,
        method: str = "POST",
        path: str | None = None,
        auth: str = "required",
        timeout_s: int = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Serve a callable of the embedding program as a function of an app."""
        route = HttpTrigger(method=method, path=path or f"/{name}", auth=auth)  # type: ignore[arg-type]
        self.registry.register(Function(app=app, name=name, handler=handler, route=route, timeout_s=timeout_s))

    async def database(self, app: App) -> AppDatabase:
        """The app's own database."""
        return self._databases.open(await self._tenants.database_name(app))

    async def call(self, app: App, function: Function, request: Request, *, caller: ServiceKey | None) -> Response:
        """Call a function. Raises `HandlerFailed`, `HandlerTimeout`."""
        make = partial(FunctionRecord, app=app.id, function=function.name)
        with carrying(app=app.id, function=function.name), self._watch.during("function", function.name, make):
            ctx = await self.context(app, function=function, request=request, caller=caller)
            return await invoke(function, request, ctx)

    async def context(
        self,
        app: App,
        *,
        function: Function | None = None,
        request: Request | None = None,
        caller: ServiceKey | None = None,
    ) -> Context:
        """A ctx for an app, inside a handler or outside of any."""
        request_id = getattr(request.state, "request_id", "") if request else ""
        name = function.name if function else ""
        return Context(
            app=AppInfo(id=app.id, name=app.name),
            env=await self._env(app, function),
            db=await self.database(app),
            ai=self._make_ai(app),
            log=logging.LoggerAdapter(
                logging.getLogger(f"ctxhost.functions.{app.id}"),
                {"app": app.id, "function": name, "request_id": request_id},
            ),
            make_http=self._make_http,
            run_after=lambda work: self._run_after(f"{app.id}/{name}", work),
            caller=_caller(caller) if caller else None,
            request=RequestInfo(
                id=request_id,
                method=request.method,
                path=request.url.path,
                received_at=rfc3339(self._clock.now_ms()),
            )
            if request
            else None,
        )

    async def _env(self, app: App, function: Function | None) -> dict[str, str]:
        deployment = self.registry.deployment(app.id)
        of_app, of_function = await self._tenants.env(app.id, function.name if function else "")
        return {
            **(deployment.manifest.env if deployment else {}),
            **of_app,
            **(function.env if function else {}),
            **of_function,
            "BUTTERBASE_API_URL": self._base_url,
            "BUTTERBASE_APP_ID": app.id,
        }

    def _run_after(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        async def bounded() -> None:
            try:
                with anyio.fail_after(WAIT_UNTIL_S):
                    await work
            except TimeoutError:
                log.error("wait_until of %s was cut off after %s s", name, WAIT_UNTIL_S)  # noqa: TRY400 - it says all
            except Exception:
                log.exception("wait_until of %s failed", name)

        self._background.start(bounded)


def _caller(key: ServiceKey) -> CallerInfo:
    return CallerInfo(key_hint=key.hint, key_name=key.name, scopes=tuple(key.scopes.split()))
