"""The account over HTTP: what there is, what is held for whom, and every line that changed it."""

from tests.api.scripted import life
from tests.api.stand import Stand, refusal


async def test_the_balance_shows_pools_and_holds(stand: Stand) -> None:
    """All amounts are JSON numbers of US dollars; a lease names the app and what it may still be charged for."""
    await stand.host.ledger.set_terms(stand.app.account, monthly_allowance=2_000_000_000, overdraft=500_000_000)
    bot = (await stand.start())["id"]
    body = (await stand.call("GET", f"/v1/{stand.sister.id}/credits")).json()

    assert {
        "balance_usd": 5,
        "held_usd": 0.065,
        "available_usd": 5.435,
        "pools": {
            "allowance": {"balance_usd": 0, "monthly_usd": 2, "period": "2026-05"},
            "credits": {"balance_usd": 5},
        },
        "open_leases": [
            {
                "id": bot,
                "app_id": stand.app.id,
                "purpose": "meetings",
                "held_usd": 0.065,
                "dimensions": ["recording", "transcription"],
                "created_at": "2026-05-28T20:26:40.000Z",
                "paid_until": "2026-05-28T20:31:40.000Z",
                "gives_up_at": "2026-05-31T08:56:40.000Z",
            }
        ],
    } == body


async def test_the_allowance_of_a_new_month_is_there_when_asked(stand: Stand) -> None:
    """Nobody has to have done anything in the account for it to be replaced."""
    await stand.host.ledger.set_terms(stand.app.account, monthly_allowance=2_000_000_000, overdraft=0)
    stand.clock.advance(seconds=10 * 86_400)
    pools = (await stand.call("GET", f"/v1/{stand.app.id}/credits")).json()["pools"]

    assert {"balance_usd": 2, "monthly_usd": 2, "period": "2026-06"} == pools["allowance"]


async def test_the_journal_has_every_line(stand: Stand) -> None:
    """Grants, charges and adjustments, newest first, with what each did to either pool."""
    bot = (await stand.start())["id"]
    stand.provider.records["p1"] = life(stand.clock.now_ms() + 1_000)
    stand.clock.advance(seconds=100)
    await stand.host.jobs.run_due()
    await stand.host.ledger.adjust(stand.app.account, -10, key="a", note="correction")
    entries = (await stand.call("GET", f"/v1/{stand.app.id}/credits/entries")).json()["entries"]
    usage = (await stand.call("GET", f"{stand.bots}/usage")).json()["rows"]
    charge = next(entry for entry in entries if entry["dimension"] == "recording")

    assert ["adjust", "charge", "charge", "grant"] == [entry["kind"] for entry in entries]
    assert [4, 3, 2, 1] == [int(entry["id"]) for entry in entries]
    assert [-1e-08, 5] == [entries[0]["amount_usd"], entries[3]["amount_usd"]]
    assert "correction" == entries[0]["note"]
    assert {
        "id": charge["id"],
        "kind": "charge",
        "amount_usd": -0.007333333,
        "allowance_usd": 0,
        "credits_usd": -0.007333333,
        "app_id": stand.app.id,
        "lease_id": bot,
        "purpose": "meetings",
        "dimension": "recording",
        "quantity": 44,
        "mark": None,
        "note": None,
        "created_at": "2026-05-28T20:28:20.000Z",
    } == charge
    assert {entry["id"] for entry in entries if entry["kind"] == "charge"} == {row["id"] for row in usage}


async def test_the_journal_comes_in_pages(stand: Stand) -> None:
    """Newest first, each line once, however many are added meanwhile."""
    for n in range(4):
        await stand.host.credits.grant(stand.app.account, 1, key=f"g{n}")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = f"&cursor={cursor}" if cursor else ""
        page = (await stand.call("GET", f"/v1/{stand.app.id}/credits/entries?limit=2{query}")).json()
        assert ["entries", "nextCursor"] == list(page)
        seen += [entry["id"] for entry in page["entries"]]
        cursor = page["nextCursor"]
        await stand.host.credits.grant(stand.app.account, 1, key=f"later{len(seen)}")

    assert ["5", "4", "3", "2", "1"] == seen


async def test_another_owners_account_is_closed(stand: Stand) -> None:
    """Neither balance nor journal."""
    for path in ("credits", "credits/entries"):
        assert (403, "not_authorized") == refusal(await stand.call("GET", f"/v1/{stand.stranger.id}/{path}"))
