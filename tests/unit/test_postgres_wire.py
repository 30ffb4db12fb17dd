"""What goes over the wire to PostgreSQL: values by their type and nothing else, statements by their numbers."""

import struct
from typing import Any

import pytest
from tests.postgres import server

from ctxhost.settings import Settings, is_url
from ctxhost.store import queries
from ctxhost.store.open import open_store
from ctxhost.store.postgres_sql import numbered
from ctxhost.store.postgres_wire import Statement, Wire, integer, integers, param, text, texts


@pytest.fixture
async def wire() -> Any:
    opened = await Wire.connect(server().url(), options="-c jit=off", prepares=True, timeout_s=10)
    yield opened
    await opened.close()


async def test_values_come_back_as_they_went(wire: Wire) -> None:
    """Numbers to the edges of 64 bits, text of any kind, none at all, and arrays of them."""
    numbers, words = [0, -1, 2**63 - 1, -(2**63)], ["", "é", "a'b", "\U0001f9ea" * 1_000]
    (result,) = await wire.trip(
        [Statement("select $1::bigint, $2::text, $3::bigint, $4::bigint[], $5::text[]",
                   (integer(-5), text("ü"), param(None), integers(numbers), texts(words)))]
    )  # fmt: skip

    assert [(-5, "ü", None, numbers, words)] == result.rows


async def test_a_sum_is_an_integer(wire: Wire) -> None:
    """Also where it is larger than any of its parts may be."""
    (result,) = await wire.trip([Statement("select sum(n) from unnest($1::bigint[]) n", (integers([2**62] * 4),))])

    assert [(2**64,)] == result.rows
    assert int is type(result.rows[0][0])


@pytest.mark.parametrize("value", [1.0, "1", None, b"1", 2**63, -(2**63) - 1])
def test_a_number_is_an_integer(value: Any) -> None:
    """Nothing else is made into one."""
    for pack in (integer, lambda one: integers([1, one])):
        with pytest.raises(struct.error):
            pack(value)


@pytest.mark.parametrize("value", [1, None, b"1", "\ud800"])
def test_text_is_text(value: Any) -> None:
    """Nothing else is made into it, and what cannot be encoded is refused before it is sent."""
    for pack in (text, lambda one: texts(["a", one])):
        with pytest.raises((AttributeError, UnicodeEncodeError)):
            pack(value)


async def test_a_trip_ends_at_the_first_statement_that_fails(wire: Wire) -> None:
    """Those before it were done, those after it were not, and the connection goes on, prepared or not."""
    await wire.trip([Statement("create temp table seen (n bigint)")])
    insert = "insert into seen values ($1)"
    for n in (1, 2):
        statements = [Statement(insert, (integer(n),)), Statement("select 1/0"), Statement(insert, (integer(9),))]
        with pytest.raises(Exception, match="division"):
            await wire.trip([Statement("begin"), statements[0], Statement("commit"), *statements[1:]])
    (result,) = await wire.trip([Statement("select n from seen order by n")])

    assert [(1,), (2,)] == result.rows
    assert wire.is_alive


def test_names_become_numbers() -> None:
    """A name has one number however often it is used; casts and times of day are no names."""
    assert ("select $1, $2, $1, x::text, '12:30'", ("a", "b")) == numbered("select :a, :b, :a, x::text, '12:30'")
    sql, names = numbered(queries.bots_page("app", status="done", before=(1, "b"), limit=5).sql)
    assert {"app", "status", "before_ms", "before_id", "limit"} == set(names)
    assert ":" not in sql


@pytest.mark.parametrize("url", ["postgresql://u:pw@h:5432/db?sslmode=require", "postgres:///x?host=/tmp"])
def test_a_url_is_kept_to_the_letter(url: str) -> None:
    """A path would lose a slash of it, and showing the settings must not show its password."""
    settings = Settings(database=url)

    assert url == settings.database
    assert is_url(url)
    assert "pw" not in repr(settings)
    assert not is_url(Settings(database="some/file.db").database)


async def test_a_path_opens_a_file(tmp_path: Any) -> None:
    """Whatever is no URL is a file's name."""
    store = await open_store(str(tmp_path / "ctxhost.db"))
    await store.aclose()

    assert (tmp_path / "ctxhost.db").exists()
