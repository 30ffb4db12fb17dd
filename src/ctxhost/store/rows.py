"""Every table on one page. A row is a value: commands put changed copies, engines load and save them.

Every key is one text column `id`, and it is the row's idempotency key. `account` names the account whose lock covers
the row; the account with the empty id is the platform's own and holds what belongs to nobody yet. Flags are 0 or 1,
times are milliseconds since 1970 UTC (0: not yet), amounts are nano-dollars, JSON is text so that it is echoed as it
came.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

PLATFORM: Final = ""
"""The id of the platform's own account: the lock over rows that belong to no tenant."""


class Account(NamedTuple):
    """Who pays: an owner, two pools of money, and the clock of its ledger. The row is the account's lock."""

    id: str
    owner: str
    allowance: int  # what is left of this month's
    credits: int  # top-ups; below zero only through a charge
    held: int  # the sum of what open leases hold
    floor: int  # zero, or below it: how far holds may go into debt
    monthly_allowance: int  # what the allowance becomes on the first of a month
    period: str  # the month that `allowance` belongs to: 2026-11
    seq: int  # of the last journal entry
    clock_ms: int  # the ledger clock: never goes back
    created_ms: int

    @property
    def account(self) -> str:
        return self.id

    @property
    def available(self) -> int:
        return self.allowance + self.credits - self.held - self.floor


class Lease(NamedTuple):
    """An amount held for one piece of work, and the prices that it was opened with."""

    id: str
    account: str
    app: str
    purpose: str  # meetings, chat, …: whose usage its charges are
    state: str  # open | closed | released | expired
    reserved: int  # what the first hold was
    held: int  # what is held now; 0 unless open
    dimensions: str  # every line that it may be charged for, comma-separated
    open: str  # the lines neither charged nor waived yet
    waived: str
    rate_card: str  # JSON: dimension → nano-dollars per hour or unit, after markup
    paid_for_s: int  # as asked for at the start: paid_until - created
    hold_s: int  # as asked for at the start: give_up_at - created
    paid_until_ms: int  # passing it makes a renewal due, nothing more
    give_up_at_ms: int  # passing it returns the hold
    created_ms: int
    ended_ms: int


class Entry(NamedTuple):
    """One line of the journal: what changed a pool. Never updated, never deleted."""

    id: str  # lease/dimension for a charge, else the caller's key
    account: str
    seq: int
    kind: str  # grant | charge | reset | adjust | refund
    app: str
    lease: str
    purpose: str
    dimension: str
    quantity: int  # seconds, tokens, …: what the dimension counts
    allowance: int  # what was added to the allowance, negative when taken
    credits: int
    mark: str  # of a charge: "" | over | late
    note: str
    at_ms: int


class ProviderCost(NamedTuple):
    """What the provider will bill the operator for the work of a lease. Beside the books, not in them."""

    id: str  # the lease
    account: str
    provider: str
    seconds: int
    amount: int
    at_ms: int


class App(NamedTuple):
    id: str
    account: str
    name: str
    subdomain: str
    folder: str  # where its manifest and functions are, or ""
    created_ms: int


class ServiceKey(NamedTuple):
    """A bearer key; only its hash is kept."""

    id: str  # SHA-256 of the key, hex
    account: str
    app: str  # bound to one app, or ""
    name: str
    hint: str  # the first characters, to recognise it by
    scopes: str  # space-separated
    created_ms: int
    expires_ms: int
    revoked_ms: int


class Secret(NamedTuple):
    """A value encrypted at rest: `sealed` opens only with the key ring and the same app, kind and name."""

    id: str  # app/kind/name
    account: str
    app: str
    kind: str  # env
    name: str  # NAME, or function/NAME
    sealed: str
    updated_ms: int


class Bot(NamedTuple):
    """A meeting bot. Its lease has the same id."""

    id: str
    account: str
    app: str
    provider: str
    provider_id: str  # "" until known
    spawn: str  # calling | unknown | created | refused | given_up
    spawn_attempt: int  # n of the provider's idempotency key (bot, n)
    status: str  # joining | waiting_room | in_call | recording | ended | done | fatal
    status_reason: str
    stop_reason: str  # why it was told to leave: "" | cancelled | insufficient_credits | …
    platform: str
    meeting_url: str
    bot_name: str
    metadata: str  # JSON, in the order sent
    transcript: int
    recording: str  # mp4 | audio_only | off
    automatic_leave: str  # JSON, as asked for
    join_at_ms: int  # 0: now
    created_ms: int
    answered_ms: int  # when the call that made it was answered; no message leaves before
    started_ms: int  # admitted
    ended_ms: int  # left the call, at the provider's word
    completed_ms: int  # the row is final: nothing more is awaited
    duration_s: int  # billed seconds; -1: not known
    recording_id: str
    recording_state: str  # "" | processing | done | failed
    recording_url: str
    transcript_id: str
    transcript_state: str
    transcript_url: str
    urls_expire_ms: int
    low_credit_ms: int  # when credits.low was sent, 0: never
    media_unwanted_ms: int = 0  # when its owner had its media deleted; from then on no link to them is kept


class BotTally(NamedTuple):
    """How many bots of an account wait to be admitted (scheduled ones do not) and how many live, for the caps."""

    id: str  # the account
    account: str
    waiting: int
    live: int


class Handle(NamedTuple):
    """A bot that exists at a provider. `wanted` 0: it must be told to leave until it has."""

    id: str  # provider/provider id
    account: str
    bot: str
    wanted: int


class History(NamedTuple):
    """One step in a bot's life, for its reader."""

    id: str  # derived from bot, code and time
    account: str
    bot: str
    code: str
    sub_code: str
    at_ms: int


class InboundEvent(NamedTuple):
    """A verified webhook of a provider, kept with its id: the same id has one effect."""

    id: str  # provider/event id
    account: str
    provider: str
    bot: str  # "" while it matches none
    kind: str
    body: str
    received_ms: int


class Endpoint(NamedTuple):
    """Where an app's events go; URL and secrets are one row, so that they are read together."""

    id: str  # the app
    account: str
    url: str
    events: str  # space-separated
    secret: str  # sealed
    old_secret: str  # sealed, or ""
    old_secret_until_ms: int
    failing_since_ms: int  # 0: the last attempt succeeded
    disabled_ms: int
    updated_ms: int


class Message(NamedTuple):
    """An event owed to an endpoint; its id is the webhook-id of every attempt."""

    id: str
    account: str
    app: str
    bot: str  # messages of one bot leave in the order of `rank`
    rank: int
    event: str
    body: str  # the exact bytes sent, as text
    state: str  # queued | delivered | dead
    attempts: int
    created_ms: int
    done_ms: int


class Attempt(NamedTuple):
    """One delivery attempt, for the log its owner reads."""

    id: str  # message/n
    account: str
    app: str
    message: str
    url: str
    status: int  # 0: no answer
    outcome: str  # delivered | what went wrong
    answer: str  # the first bytes of the body
    took_ms: int
    at_ms: int


class Answer(NamedTuple):
    """What an Idempotency-Key was first used for."""

    id: str  # app/hash of the key
    account: str
    request: str  # hash of the body
    bot: str  # the first answer is this bot as it was when new
    created_ms: int


class RateTaken(NamedTuple):
    """What was taken of late of a rate that all hosts share. Of the platform's account."""

    id: str  # as a plugin calls it: recall/create
    account: str
    taken: str  # JSON: [[when in ms, host, permits], …], without those that count no more
    at_ms: int  # when permits were taken last


class Job(NamedTuple):
    """Work that survives a restart. One row per (kind, ref); claimed with a deadline by any host."""

    id: str  # kind/ref
    account: str
    kind: str
    lane: str  # shares a limit on how many run at once
    ref: str
    generation: int  # grows when asked for again, so that a run under way does not end the new wish
    due_ms: int
    claimed_until_ms: int
    attempts: int
    created_ms: int


KEEP_FOR_EVER: Final = 0
_DAY_S: Final = 86_400


class Table(NamedTuple):
    """How a row type is stored."""

    row: type[Any]
    name: str
    keep_s: int = KEEP_FOR_EVER
    """Seconds after which a finished row may be deleted, unless the operator says otherwise."""
    age: str = ""
    """The column that `keep_s` counts from (rows where it is 0 are not finished)."""
    due: str = ""
    """The column by which an open row of an account falls due and is loaded unasked."""
    append_only: bool = False


TABLES: Final = (
    Table(Account, "account"),
    Table(Lease, "lease", due="give_up_at_ms"),
    Table(Entry, "entry", append_only=True),
    Table(ProviderCost, "provider_cost"),
    Table(App, "app"),
    Table(ServiceKey, "service_key"),
    Table(Secret, "secret"),
    Table(Bot, "bot"),
    Table(BotTally, "bot_tally"),
    Table(Handle, "handle"),
    Table(History, "history"),
    Table(InboundEvent, "inbound_event", keep_s=30 * _DAY_S, age="received_ms"),
    Table(Endpoint, "endpoint"),
    Table(Message, "message", keep_s=30 * _DAY_S, age="done_ms"),
    Table(Attempt, "attempt", keep_s=30 * _DAY_S, age="at_ms"),
    Table(Answer, "answer", keep_s=_DAY_S, age="created_ms"),
    Table(RateTaken, "rate_taken", keep_s=_DAY_S, age="at_ms"),
    Table(Job, "job"),
)
TABLE_OF: Final = {table.row: table for table in TABLES}
DUE_TABLES: Final = tuple(table for table in TABLES if table.due)


def _quick_replace(table: type[Any]) -> Callable[..., Any]:
    place = {name: n for n, name in enumerate(table._fields)}
    make = tuple.__new__

    def _replace(row: Any, /, **changes: Any) -> Any:
        values = list(row)
        for name, value in changes.items():
            values[place[name]] = value
        return make(table, values)

    return _replace


# Most rows are made by these two: here without the checks that types and column lists have made, in half the time.
for _table in TABLES:
    _table.row._make = staticmethod(partial(tuple.__new__, _table.row))
    _table.row._replace = _quick_replace(_table.row)


def kept_for(keep_s: Mapping[str, int]) -> Iterator[tuple[Table, int]]:
    """The tables that do not keep their rows for ever, with how long they do: as asked for, else as they say."""
    for table in TABLES:
        if table.keep_s:
            yield table, keep_s.get(table.name, table.keep_s)
