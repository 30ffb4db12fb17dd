"""Every read, named. One text for both engines; `:name` marks a parameter."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from ctxhost.store import Query, R
from ctxhost.store.rows import (
    TABLE_OF,
    Account,
    App,
    Attempt,
    Bot,
    Endpoint,
    Entry,
    Handle,
    History,
    Job,
    Lease,
    Message,
    Secret,
    ServiceKey,
)

T = TypeVar("T")


def _select(table: Any) -> str:
    return f"select {', '.join(table._fields)} from {TABLE_OF[table].name}"  # noqa: S608


def _many(table: type[R], where: str, **params: str | int | None) -> Query[list[R]]:
    row: Any = table
    return Query(f"{_select(table)} {where}", lambda rows: list(map(row._make, rows)), params)


def _first(table: type[R], where: str, **params: str | int | None) -> Query[R | None]:
    row: Any = table
    return Query(f"{_select(table)} {where} limit 1", lambda rows: row._make(rows[0]) if rows else None, params)


def by_id(table: type[R], row_id: str) -> Query[R | None]:
    """One row by its key."""
    return _first(table, "where id = :id", id=row_id)


class AccountState(NamedTuple):
    """An account and the earliest time at which a hold of it is given up (None: nothing is held)."""

    account: Account
    next_due_ms: int | None


def account_state(account: str) -> Query[AccountState | None]:
    columns = ", ".join(f"a.{name}" for name in Account._fields)
    return Query(
        f"select {columns}, (select min(give_up_at_ms) from lease where account = a.id and state = 'open')"  # noqa: S608
        " from account a where a.id = :account",
        lambda rows: AccountState(Account._make(rows[0][:-1]), rows[0][-1]) if rows else None,
        {"account": account},
    )


def accounts() -> Query[list[Account]]:
    return _many(Account, "where id <> '' order by created_ms, id")


def accounts_due(now_ms: int, *, limit: int) -> Query[list[str]]:
    """Accounts with a hold that the clock has given up: those of the `limit` oldest such holds."""
    is_due = "state = 'open' and give_up_at_ms <= :now and account <> ''"
    oldest = f"select account from lease where {is_due} order by give_up_at_ms limit :limit"  # noqa: S608
    return Query(
        f"select distinct account from ({oldest}) as oldest",  # noqa: S608
        lambda rows: [row[0] for row in rows],
        {"now": now_ms, "limit": limit},
    )


def open_leases(account: str, *, limit: int) -> Query[list[Lease]]:
    return _many(Lease, "where account = :account and state = 'open' order by give_up_at_ms limit :limit",
                 account=account, limit=limit)  # fmt: skip


def entries(account: str, *, before_seq: int, limit: int) -> Query[list[Entry]]:
    """The journal, newest first."""
    return _many(Entry, "where account = :account and seq < :before order by seq desc limit :limit",
                 account=account, before=before_seq, limit=limit)  # fmt: skip


def usage(app: str, purpose: str, *, limit: int) -> Query[list[Entry]]:
    """The charges of an app for one kind of work, newest first."""
    return _many(
        Entry,
        "where app = :app and purpose = :purpose and kind = 'charge' order by seq desc limit :limit",
        app=app,
        purpose=purpose,
        limit=limit,
    )


def apps(account: str | None = None) -> Query[list[App]]:
    if account is None:
        return _many(App, "order by created_ms, id")
    return _many(App, "where account = :account order by created_ms, id", account=account)


def app_of_subdomain(subdomain: str) -> Query[App | None]:
    return _first(App, "where subdomain = :subdomain and subdomain <> ''", subdomain=subdomain)


def service_keys(account: str) -> Query[list[ServiceKey]]:
    return _many(ServiceKey, "where account = :account order by created_ms, id", account=account)


def secrets(app: str, kind: str) -> Query[list[Secret]]:
    return _many(Secret, "where app = :app and kind = :kind order by name", app=app, kind=kind)


def bots_page(app: str, *, status: str | None, before: tuple[int, str] | None, limit: int) -> Query[list[Bot]]:
    """Newest first; `before` is the creation time and id of the last bot of the page before."""
    where = "where app = :app"
    params: dict[str, str | int | None] = {"app": app, "limit": limit}
    if status is None:
        where += " and status <> ''"
    else:
        where += " and status = :status"
        params["status"] = status
    if before is not None:
        where += " and (created_ms, id) < (:before_ms, :before_id)"
        params["before_ms"], params["before_id"] = before
    return _many(Bot, f"{where} order by created_ms desc, id desc limit :limit", **params)


def finished_bots(before_ms: int, *, after: tuple[int, str], limit: int) -> Query[list[Bot]]:
    """Those that were finished by then, oldest first; `after` is the time and id of the last one of the page before."""
    return _many(
        Bot,
        # In this order: SQLite begins its search at the first condition that the index can begin at.
        "where (completed_ms, id) > (:after_ms, :after_id) and completed_ms <= :before and completed_ms > 0"
        " order by completed_ms, id limit :limit",
        before=before_ms,
        after_ms=after[0],
        after_id=after[1],
        limit=limit,
    )


def handles(bot: str) -> Query[list[Handle]]:
    return _many(Handle, "where bot = :bot order by id", bot=bot)


def history(bot: str) -> Query[list[History]]:
    return _many(History, "where bot = :bot order by at_ms, id", bot=bot)


def events_told(bot: str, *, limit: int) -> Query[Sequence[str]]:
    """The provider's webhooks about a bot whose content is kept."""
    return ids("select id from inbound_event where bot = :bot and body <> '' limit :limit", bot=bot, limit=limit)


class Owed(NamedTuple):
    """A message that has not left for good, where it goes, and what decides when."""

    message: Message
    endpoint: Endpoint | None
    answered_ms: int | None  # when the call that made the bot was answered; None: it is of no bot
    tried_ms: int  # the last attempt of the schedule, 0: none


def owed(bot: str, app: str, *, limit: int) -> Query[list[Owed]]:
    """The messages of a bot that are still owed, in the order in which they leave."""
    columns = [f"m.{name}" for name in Message._fields] + [f"e.{name}" for name in Endpoint._fields]
    tried = "select max(at_ms) from attempt where message = m.id and id like m.id || '/' || m.attempts || '/%'"
    return Query(
        f"select {', '.join(columns)}, b.answered_ms, coalesce(({tried}), 0)"  # noqa: S608
        " from message m left join endpoint e on e.id = m.app left join bot b on b.id = m.bot"
        " where m.bot = :bot and m.app = :app and m.state = 'queued' order by m.rank limit :limit",
        lambda rows: list(map(_owed, rows)),
        {"bot": bot, "app": app, "limit": limit},
    )


def _owed(row: tuple[Any, ...]) -> Owed:
    split = len(Message._fields)
    endpoint = row[split : split + len(Endpoint._fields)]
    return Owed(
        Message._make(row[:split]), Endpoint._make(endpoint) if endpoint[0] is not None else None, row[-2], row[-1]
    )


def messages_page(app: str, *, before: tuple[int, str] | None, limit: int) -> Query[list[Message]]:
    """An app's messages, newest first."""
    params: dict[str, str | int | None] = {"app": app, "limit": limit}
    where = "where app = :app"
    if before is not None:
        where += " and (created_ms, id) < (:before_ms, :before_id)"
        params["before_ms"], params["before_id"] = before
    return _many(Message, f"{where} order by created_ms desc, id desc limit :limit", **params)


def attempts(*messages: str) -> Query[list[Attempt]]:
    """The attempts at one or several messages, oldest first."""
    params = {f"message_{n}": message for n, message in enumerate(messages)}
    return Query(
        f"{_select(Attempt)} where message in ({', '.join(f':{name}' for name in params)})",
        lambda rows: sorted(map(Attempt._make, rows), key=lambda attempt: (attempt.at_ms, attempt.id)),
        params,
    )


def deliver_jobs(lane: str) -> Query[list[Job]]:
    """The deliveries that wait in a lane."""
    return _many(Job, "where lane = :lane and kind = 'deliver' order by due_ms, id", lane=lane)


def jobs() -> Query[list[Job]]:
    return _many(Job, "order by due_ms, id")


class DueJobs(NamedTuple):
    """Jobs of a kind that are due and not begun."""

    kind: str
    jobs: int
    oldest_due_ms: int


def due_jobs(now_ms: int, *, limit: int) -> Query[list[DueJobs]]:
    """How many jobs of each kind are due; no more than the `limit` oldest are counted."""
    due = "select kind, due_ms from job where due_ms <= :now and claimed_until_ms <= :now order by due_ms limit :limit"
    return Query(
        f"select kind, count(*), min(due_ms) from ({due}) as due group by kind",  # noqa: S608
        lambda rows: list(map(DueJobs._make, rows)),
        {"now": now_ms, "limit": limit},
    )


class Totals(NamedTuple):
    """Of all tenants together. Amounts are added as floats: no sum of them is too large."""

    bots_waiting: int
    bots_live: int
    messages_queued: int
    held_nano_usd: float
    balance_nano_usd: float


def totals(*, limit: int) -> Query[Totals]:
    """Costs what there are accounts, not bots; no more than `limit` queued messages are counted."""
    queued = "select bot from message where state = 'queued' order by bot, rank limit :limit"
    held, owned = (f"coalesce(sum(cast({what} as double precision)), 0)" for what in ("held", "allowance + credits"))
    bots = "select cast(coalesce(sum(waiting), 0) as bigint) as waiting, cast(coalesce(sum(live), 0) as bigint) as live"
    return Query(
        f"select waiting, live, queued, held, balance from ({bots} from bot_tally) as bots,"  # noqa: S608
        f" (select count(*) as queued from ({queued}) as message) as messages,"
        f" (select {held} as held, {owned} as balance from account) as money",
        lambda rows: Totals._make(rows[0]),
        {"limit": limit},
    )


def ids(sql: str, **params: str | int | None) -> Query[Sequence[str]]:
    """The first column of any read, as a list."""
    return Query(sql, lambda rows: [row[0] for row in rows], params)
