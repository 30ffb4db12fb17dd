"""Proof that the books are right: everything that is cached is computed again from what it was made of."""

from dataclasses import dataclass

from ctxhost.store import Query, Store


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in the books that does not add up."""

    account: str
    what: str


_CHECKS: dict[str, str] = {
    "the allowance is {1} but its journal adds up to {2}": """
        select a.id, a.allowance, coalesce(sum(e.allowance), 0) as total from account a
        left join entry e on e.account = a.id group by a.id, a.allowance
        having a.allowance <> coalesce(sum(e.allowance), 0)""",
    "the credits are {1} but their journal adds up to {2}": """
        select a.id, a.credits, coalesce(sum(e.credits), 0) as total from account a
        left join entry e on e.account = a.id group by a.id, a.credits
        having a.credits <> coalesce(sum(e.credits), 0)""",
    "held is {1} but the open leases hold {2}": """
        select a.id, a.held, coalesce(sum(l.held), 0) as total from account a
        left join lease l on l.account = a.id and l.state = 'open' group by a.id, a.held
        having a.held <> coalesce(sum(l.held), 0)""",
    "the journal ends at {1} but has {2} entries": """
        select a.id, a.seq, count(e.id) from account a
        left join entry e on e.account = a.id group by a.id, a.seq
        having a.seq <> count(e.id) or a.seq <> coalesce(max(e.seq), 0)""",
    "entry {1} is later than the account's clock": """
        select e.account, e.id from entry e join account a on a.id = e.account where e.at_ms > a.clock_ms""",
    "lease {1} holds {2} although it is {3}": """
        select account, id, held, state from lease where state <> 'open' and held <> 0""",
    "lease {1} is open without a line to charge": """
        select account, id from lease where state = 'open' and open = ''""",
    "lease {1} has lines left ({2}) although it closed": """
        select account, id, open from lease where state = 'closed' and open <> ''""",
    "charge {1} belongs to lease {2}, which is not there or not of this account": """
        select e.account, e.id, e.lease from entry e left join lease l on l.id = e.lease and l.account = e.account
        where e.kind = 'charge' and l.id is null""",
    "charge {1} is of a line that the lease still has open or waived": """
        select e.account, e.id from entry e join lease l on l.id = e.lease where e.kind = 'charge' and (
          replace(',' || l.open || ',', ',' || e.dimension || ',', '') <> ',' || l.open || ','
          or replace(',' || l.waived || ',', ',' || e.dimension || ',', '') <> ',' || l.waived || ',')""",
    "lease {1} has {2} lines, of which {3} are charged, waived or open": """
        select * from (
          select l.account, l.id, length(l.dimensions) - length(replace(l.dimensions, ',', '')) + 1 as lines,
            coalesce(charged.lines, 0)
            + case when l.open = '' then 0 else length(l.open) - length(replace(l.open, ',', '')) + 1 end
            + case when l.waived = '' then 0 else length(l.waived) - length(replace(l.waived, ',', '')) + 1 end as found
          from lease l left join (select lease, count(*) as lines from entry where kind = 'charge' group by lease)
            as charged on charged.lease = l.id) as counted
        where lines <> found""",
    "refund {1} has no charge, or returns more than it": """
        select r.account, r.id from entry r left join entry c
          on c.id = substr(r.id, 1, length(r.id) - length('/refund')) and c.kind = 'charge'
        where r.kind = 'refund' and (c.id is null or r.allowance + r.credits > -(c.allowance + c.credits))""",
    "{1} {2} adds {3}": """
        select account, kind, id, allowance + credits from entry
        where (kind = 'charge' and allowance + credits > 0)
          or (kind in ('grant', 'refund') and allowance + credits <= 0)""",
    "bot {1} has no lease": """
        select b.account, b.id from bot b left join lease l on l.id = b.id and l.account = b.account
        where l.id is null""",
    "bots counted as waiting and live are {1} and {2}, found {3} and {4}": """
        select * from (
          select t.account, t.waiting, t.live,
            count(case when b.join_at_ms <= b.created_ms + 600000 and b.status in ('joining', 'waiting_room')
              then 1 end) as found_waiting,
            count(b.id) as found_live
          from bot_tally t left join bot b on b.account = t.account and b.status not in ('ended', 'done', 'fatal')
          group by t.account, t.waiting, t.live) as tally
        where waiting <> found_waiting or live <> found_live""",
}


async def verify(store: Store) -> list[Finding]:
    """Every finding; an empty list means that the books are right."""
    findings: list[Finding] = []
    for text, sql in _CHECKS.items():
        rows = await store.read(Query(sql, list))
        findings += [Finding(row[0], text.format(*row)) for row in rows]
    return findings
