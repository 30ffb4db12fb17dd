"""The schema, as steps that only add. Each is recorded with the step in one transaction.

A step that has landed is never edited: a later one adds to it. `{int}` is the engine's 64-bit integer,
`{text}` its text that compares by code points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_MONEY_LIMIT = 10**18


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: its name, for ever, and its statements."""

    name: str
    statements: Sequence[str]


def _table(name: str, *, text: str, integer: str, checks: Sequence[str] = (), money: str = "") -> str:
    columns = ["id {text} primary key not null"]
    columns += [f"{column} {{text}} not null" for column in text.split()]
    columns += [f"{column} {{int}} not null" for column in integer.split()]
    columns += [
        f"{column} {{int}} not null check ({column} between -{_MONEY_LIMIT} and {_MONEY_LIMIT})"
        for column in money.split()
    ]
    columns += [f"check ({check})" for check in checks]
    return f"create table {name} ({', '.join(columns)}){{strict}}"


_TABLES = (
    _table(
        "account",
        text="owner period",
        integer="seq clock_ms created_ms",
        money="allowance credits held floor monthly_allowance",
        checks=("allowance >= 0", "held >= 0", "floor <= 0", "monthly_allowance >= 0", "seq >= 0"),
    ),
    _table(
        "lease",
        text="account app purpose state dimensions open waived rate_card",
        integer="paid_for_s hold_s paid_until_ms give_up_at_ms created_ms ended_ms",
        money="reserved held",
        checks=(
            "reserved >= 0",
            "held >= 0",
            "state in ('open', 'closed', 'released', 'expired')",
            "state = 'open' or held = 0",
        ),
    ),
    _table(
        "entry",
        text="account kind app lease purpose dimension mark note",
        integer="seq quantity at_ms",
        money="allowance credits",
        checks=(
            "kind in ('grant', 'charge', 'reset', 'adjust', 'refund')",
            "mark in ('', 'over', 'late')",
            "quantity >= 0",
            "seq > 0",
        ),
    ),
    _table("provider_cost", text="account provider", integer="seconds at_ms", money="amount"),
    _table("app", text="account name subdomain folder", integer="created_ms"),
    _table("service_key", text="account app name hint scopes", integer="created_ms expires_ms revoked_ms"),
    _table("secret", text="account app kind name sealed", integer="updated_ms"),
    _table(
        "bot",
        text=(
            "account app provider provider_id spawn status status_reason stop_reason platform meeting_url bot_name"
            " metadata recording automatic_leave recording_id recording_state recording_url transcript_id"
            " transcript_state transcript_url"
        ),
        integer=(
            "spawn_attempt transcript join_at_ms created_ms answered_ms started_ms ended_ms completed_ms duration_s"
            " urls_expire_ms low_credit_ms"
        ),
        checks=(
            "status in ('joining', 'waiting_room', 'in_call', 'recording', 'ended', 'done', 'fatal')",
            "spawn in ('calling', 'unknown', 'created', 'refused', 'given_up')",
            "recording in ('mp4', 'audio_only', 'off')",
        ),
    ),
    _table("bot_tally", text="account", integer="waiting live", checks=("waiting >= 0", "live >= waiting")),
    _table("handle", text="account bot", integer="wanted"),
    _table("history", text="account bot code sub_code", integer="at_ms"),
    _table("inbound_event", text="account provider bot kind body", integer="received_ms"),
    _table(
        "endpoint",
        text="account url events secret old_secret",
        integer="old_secret_until_ms failing_since_ms disabled_ms updated_ms",
    ),
    _table(
        "message",
        text="account app bot event body state",
        integer="rank attempts created_ms done_ms",
        checks=("state in ('queued', 'delivered', 'dead')",),
    ),
    _table("attempt", text="account app message url outcome answer", integer="status took_ms at_ms"),
    _table("answer", text="account request bot", integer="created_ms"),
    _table("job", text="account kind lane ref", integer="generation due_ms claimed_until_ms attempts created_ms"),
)

_INDEXES = (
    "create index lease_due on lease (account, give_up_at_ms) where state = 'open'",
    "create index lease_sweep on lease (give_up_at_ms) where state = 'open'",
    "create unique index entry_seq on entry (account, seq)",
    "create index entry_usage on entry (app, purpose, seq) where kind = 'charge'",
    "create index app_account on app (account, created_ms)",
    "create unique index app_subdomain on app (subdomain) where subdomain <> ''",
    "create index service_key_account on service_key (account, created_ms)",
    "create index secret_app on secret (app, kind)",
    "create index bot_newest on bot (app, created_ms, id)",
    "create index bot_status on bot (app, status, created_ms, id)",
    "create index handle_bot on handle (bot)",
    "create index history_bot on history (bot, at_ms)",
    "create index inbound_event_age on inbound_event (received_ms)",
    "create index message_head on message (bot, rank) where state = 'queued'",
    "create index message_newest on message (app, created_ms, id)",
    "create index message_age on message (done_ms)",
    "create index attempt_message on attempt (message, at_ms)",
    "create index attempt_age on attempt (at_ms)",
    "create index answer_age on answer (created_ms)",
    "create index job_due on job (due_ms)",
    "create index job_lane on job (lane) where claimed_until_ms > 0",
)

_PLATFORM_ACCOUNT = (
    "insert into account (id, owner, period, seq, clock_ms, created_ms, allowance, credits, held, floor,"
    " monthly_allowance) values ('', 'platform', '', 0, 0, 0, 0, 0, 0, 0, 0)"
)

_DELIVERIES_OF_A_LANE = "create index job_deliveries on job (lane, due_ms, id) where kind = 'deliver'"

_RATES = (
    _table("rate_taken", text="account taken", integer="at_ms"),
    "create index rate_taken_age on rate_taken (at_ms)",
)

_EVENTS_OF_A_BOT = "create index inbound_event_bot on inbound_event (bot) where body <> ''"

# An index that only one query's own words lead to: on a table that is empty, or whose statistics mislead, another one's
# plan could settle on it and stay when the table has grown.
_OWN_INDEXES = (
    "drop index lease_sweep",
    "create index lease_sweep on lease (give_up_at_ms) where state = 'open' and account <> ''",
    "drop index bot_newest",
    "create index bot_newest on bot (app, created_ms, id) where status <> ''",
)

_MEDIA_UNWANTED = "alter table bot add column media_unwanted_ms {int} not null default 0"

_FINISHED_BOTS = "create index bot_finished on bot (completed_ms, id) where completed_ms > 0"

# A host's number in the roll call of PostgreSQL's engine, 0: nobody's. No field of a row, for no command looks at it.
_CLAIMED_BY = "alter table job add column claimed_by {int} not null default 0"

STEPS: Sequence[Step] = (
    Step("0001_first", (*_TABLES, *_INDEXES, _PLATFORM_ACCOUNT)),
    Step("0002_deliveries_of_a_lane", (_DELIVERIES_OF_A_LANE,)),
    Step("0003_rates", _RATES),
    Step("0004_media_unwanted", (_MEDIA_UNWANTED,)),
    Step("0005_own_indexes", _OWN_INDEXES),
    Step("0006_events_of_a_bot", (_EVENTS_OF_A_BOT,)),
    Step("0007_finished_bots", (_FINISHED_BOTS,)),
    Step("0008_claimed_by", (_CLAIMED_BY,)),
)
