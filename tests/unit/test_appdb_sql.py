"""The SQL that apps write, turned into SQLite's."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxhost.functions.queryerror import QueryError, QueryErrorCode
from ctxhost.functions.sql import translate


@pytest.mark.parametrize(
    ("written", "run"),
    [
        pytest.param("SELECT $2, $1, $2", "select :p2, :p1, :p2", id="any-order-and-repeated"),
        pytest.param("SELECT '$1', 'it''s $2', $1", "select '$1', 'it''s $2', :p1", id="not-in-strings"),
        pytest.param("SELECT 1 -- $1\n, $1", "select 1, :p1", id="not-in-line-comments"),
        pytest.param("SELECT 1 -- $1\r, $2", "select 1, :p2", id="line-comments-end-with-any-line"),
        pytest.param("SELECT /* $1 /* $2 */ $3 */ $1", "select :p1", id="not-in-nested-comments"),
        pytest.param('SELECT "a$1", "b""c`d"', 'select `a$1`, `b"c``d`', id="not-in-names"),
        pytest.param("SELECT $$it's $1$$, $t$ $$ $t$", "select 'it''s $1', ' $$ '", id="dollar-strings"),
        pytest.param("SELECT Id AS BotId FROM T", "select id as botid from t", id="names-fold"),
        pytest.param("SELECT 1 - -1", "select 1 - - 1", id="two-minuses-are-no-comment"),
        pytest.param("SELECT count(*), t.a FROM t;", "select count(*), t.a from t", id="ends-with-semicolon"),
        pytest.param("SELECT ';' ", "select ';'", id="semicolon-in-string"),
        pytest.param("SELECT CURRENT_TIMESTAMP, a ILIKE 'x'", "select now(), a like 'x'", id="words"),
        pytest.param("SELECT $1::text", "select cast(:p1 as text)", id="cast-parameter"),
        pytest.param("SELECT t.a::int::text", "select cast(cast(t.a as integer) as text)", id="cast-chain"),
        pytest.param("SELECT f(a, (1))::bigint + 1", "select cast(f(a, (1)) as integer) + 1", id="cast-call"),
        pytest.param("SELECT (1+2)::double precision", "select cast((1 + 2) as real)", id="cast-parenthesis"),
        pytest.param("SELECT a IN (1)::text", "select a in cast((1) as text)", id="cast-is-not-of-in"),
        pytest.param("SELECT now()::date", "select substr(now(), 1, 10)", id="cast-date"),
        pytest.param(
            "SELECT a::numeric(10, 2), b::varchar(3)", "select cast(a as numeric), cast(b as text)", id="sizes"
        ),
        pytest.param("SELECT CAST(a AS uuid) AS b", "select cast(a as text) as b", id="cast-as"),
        pytest.param("SELECT data->>'a', b->'c'", "select data ->> 'a', b -> 'c'", id="json"),
    ],
)
def test_written_and_run(written: str, run: str) -> None:
    """Placeholders, names, strings, comments and casts arrive as SQLite understands them."""
    assert run == translate(written).sql


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        pytest.param("", "not_allowed", id="empty"),
        pytest.param("-- nothing", "not_allowed", id="only-a-comment"),
        pytest.param("SELECT 1; SELECT 2", "syntax_error", id="two-statements"),
        pytest.param("SELECT 1;;DELETE FROM t", "syntax_error", id="two-more"),
        pytest.param("SELECT 'a", "syntax_error", id="open-string"),
        pytest.param('SELECT "a', "syntax_error", id="open-name"),
        pytest.param("SELECT $$a", "syntax_error", id="open-dollar-string"),
        pytest.param("SELECT /* a", "syntax_error", id="open-comment"),
        pytest.param("SELECT E'a'", "syntax_error", id="escape-string"),
        pytest.param("SELECT x'00'", "syntax_error", id="blob"),
        pytest.param("SELECT ?", "syntax_error", id="question-mark"),
        pytest.param("SELECT :a", "syntax_error", id="named-parameter"),
        pytest.param("SELECT @a", "syntax_error", id="at-parameter"),
        pytest.param("SELECT $a", "syntax_error", id="dollar-name"),
        pytest.param("SELECT [a]", "syntax_error", id="brackets"),
        pytest.param("SELECT `a`", "syntax_error", id="backticks"),
        pytest.param("SELECT 'a\0'", "syntax_error", id="nul"),
        pytest.param("SELECT ::text", "syntax_error", id="cast-of-nothing"),
        pytest.param("SELECT a::boolean", "syntax_error", id="cast-unknown"),
        pytest.param("SELECT a::", "syntax_error", id="cast-to-nothing"),
        pytest.param("SELECT a)::text", "syntax_error", id="cast-unopened"),
        pytest.param("SELECT CAST(a AS date)", "syntax_error", id="cast-as-date"),
        pytest.param("SELECT $0", "bad_parameter", id="parameter-zero"),
        pytest.param("SELECT $1001", "bad_parameter", id="parameter-too-high"),
        pytest.param("SELECT '" + "a" * 100_000 + "'", "too_large", id="too-long"),
    ],
)
def test_what_cannot_be_read_is_refused(sql: str, code: QueryErrorCode) -> None:
    """Nothing is guessed: an unknown form is an error with a code."""
    with pytest.raises(QueryError) as caught:
        translate(sql)

    assert code == caught.value.code


def test_what_a_statement_needs_is_known_before_it_runs() -> None:
    """The highest parameter, and whether it writes, also behind WITH."""
    assert (3, False) == (translate("SELECT $3").parameters, translate("SELECT $3").writes)
    assert translate("WITH a AS (SELECT 1) DELETE FROM t").writes


def test_every_translation_is_one_that_sqlite_takes() -> None:
    """The forms above are not only text: SQLite runs a statement made of many of them."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.create_function("now", 0, lambda: "2026-11-21T20:00:00.000Z")
    statement = translate(
        """SELECT $1::text || '-' || ($2 + 1)::text AS "Joined", -- $3
                  now()::date AS today, $${"a": 1}$$ ->> 'a' AS "a", 1 - -1 AS two, CAST($1 AS varchar(9)) AS c"""
    )

    row = connection.execute(statement.sql, {"p1": 5, "p2": 6}).fetchone()
    connection.close()

    assert ("5-7", "2026-11-21", 1, 2, "5") == row


PIECES = (
    "select from t where a :: text $1 $2 ( ) , . 'x' ' \" \"n\" -- /* */ $$ $q$ ; cast as date double precision int "
    "varchar(3) now() + - * = insert into values returning ? [ ] é \0 \ud800"
)


@given(st.lists(st.sampled_from(PIECES.split(" ")), max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_translated_or_refused(sql: str) -> None:
    """No text makes the translation fail in another way."""
    try:
        statement = translate("SELECT " + sql)
    except QueryError:
        return

    assert statement.sql.startswith("select")
    assert 0 <= statement.parameters <= 1_000
