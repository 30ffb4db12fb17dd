"""PostgreSQL-flavoured SQL as apps write it, turned into what SQLite runs.

Understood: `$1` placeholders in any order and repeated, `"quoted"` names, folding of other names to lower case,
dollar-quoted strings, nested comments, `now()`, `gen_random_uuid()`, `CURRENT_TIMESTAMP`, `CURRENT_DATE`, `RETURNING`,
`ON CONFLICT`, `ILIKE`, `string_agg`, `->` and `->>` on JSON, `CAST(x AS type)`, and `::type` after a literal, a
placeholder, a name, a call or a parenthesis, for text, varchar, uuid, timestamptz, date, json, jsonb and numbers.

Not supported, and refused: DDL and transaction statements, `E'…'` strings, arrays and `ANY`, `interval`, `DEFAULT` as a
value, `FOR UPDATE`, casts to other types (boolean among them). Different: LIKE ignores ASCII case, a cast to an integer
cuts instead of rounding, and `SELECT count(*)` names its column `count(*)`: name expressions with AS.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.sqltokens import Token, tokens_of

MAX_SQL_CHARS: Final = 100_000
MAX_PARAMETERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as its engine takes it: for SQLite parameters are named `:p1`, `:p2`, …, for PostgreSQL `$1`."""

    sql: str
    parameters: int
    writes: bool


_VERBS: Final = frozenset({"select", "insert", "update", "delete", "with", "values"})
_WRITES: Final = frozenset({"insert", "update", "delete"})
_WORDS: Final = {
    "ilike": "like",
    "current_timestamp": "now()",
    "current_date": "substr(now(), 1, 10)",
    "string_agg": "group_concat",
}
_KEYWORD_TEXT: Final = (
    "and as between by case else from in is like limit not on or returning select set then using values when where"
)
_KEYWORDS: Final = frozenset(_KEYWORD_TEXT.split())
"""Words that neither name a function before a parenthesis nor are a value before a cast."""

_CASTS: Final = {
    **dict.fromkeys(("text", "varchar", "uuid", "timestamptz", "json", "jsonb"), ("cast(", " as text)")),
    **dict.fromkeys(("integer", "int", "int4", "bigint", "int8", "smallint", "int2"), ("cast(", " as integer)")),
    **dict.fromkeys(("numeric", "decimal"), ("cast(", " as numeric)")),
    **dict.fromkeys(("real", "float4", "float8", "double precision"), ("cast(", " as real)")),
    "date": ("substr(", ", 1, 10)"),
}


@lru_cache(maxsize=512)
def translate(sql: str) -> Statement:
    """One statement of an app's SQL for SQLite.

    Raises:
        QueryError: `syntax_error` for what cannot be read, `not_allowed` for a statement that apps may not use,
            `too_large` for one over 100,000 characters.
    """
    tokens = read(sql)
    return Statement(_Writer(tokens).written(), parameters_of(tokens), is_write(tokens))


def read(sql: str, *, postgres: bool = False) -> list[Token]:
    """The tokens of a statement that begins like one that apps may use. Raises as `translate` does."""
    if len(sql) > MAX_SQL_CHARS:
        raise QueryError("too_large", f"the statement has over {MAX_SQL_CHARS:,} characters")
    tokens = tokens_of(sql, postgres=postgres)
    first = tokens[0].text if tokens else "nothing"
    if first not in _VERBS:
        raise QueryError("not_allowed", f"a query is SELECT, INSERT, UPDATE, DELETE, WITH or VALUES, not {first[:40]}")
    return tokens


def parameters_of(tokens: list[Token]) -> int:
    """The highest number of a parameter. Raises `QueryError` for one that is out of bounds."""
    numbers = [int(token.text[1:]) for token in tokens if token.kind == "param"]
    if any(not 1 <= number <= MAX_PARAMETERS for number in numbers):
        raise QueryError("bad_parameter", f"parameters are $1 to ${MAX_PARAMETERS}")
    return max(numbers, default=0)


def is_write(tokens: list[Token]) -> bool:
    return any(token.kind == "word" and token.text in _WRITES for token in tokens)


class _Writer:
    """Writes the tokens out again, one piece each, so that a cast can go back and wrap what stands before it."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._out: list[Token] = []
        self._opened: list[bool] = []  # for each open parenthesis: is it that of CAST(

    def written(self) -> str:
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            self._write(token)
        return _joined(self._out)

    def _write(self, token: Token) -> None:
        if token.kind == "cast":
            before, after = self._cast_type()
            start = self._operand_start()
            self._out[start:] = [Token("operand", before + _joined(self._out[start:]) + after)]
        elif token.kind == "param":
            self._out.append(Token("param", f":p{int(token.text[1:])}"))
        elif token.kind == "name":
            # In double quotes SQLite would take an unknown column for a string.
            inner = token.text[1:-1].replace('""', '"').replace("`", "``")
            self._out.append(Token("name", f"`{inner}`"))
        elif token.kind == "word":
            self._word(token)
        else:
            self._parenthesis(token)
            self._out.append(token)

    def _word(self, token: Token) -> None:
        if token.text == "as" and self._opened and self._opened[-1]:
            before, after = self._cast_type()
            if before != "cast(":
                raise QueryError("syntax_error", "write x::date rather than CAST(x AS date)")
            self._out.append(Token("word", after.removesuffix(")").strip()))
        elif self._out and self._out[-1].text == ".":
            self._out.append(token)
        else:
            self._out.append(Token("word", _WORDS.get(token.text, token.text)))

    def _parenthesis(self, token: Token) -> None:
        if token.text == "(":
            self._opened.append(bool(self._out) and self._out[-1] == Token("word", "cast"))
        elif token.text == ")" and self._opened:
            self._opened.pop()

    def _cast_type(self) -> tuple[str, str]:
        words: list[str] = []
        while len(words) < 2 and self._at < len(self._tokens) and self._tokens[self._at].kind == "word":
            words.append(self._tokens[self._at].text)
            if len(words) == 2 and " ".join(words) != "double precision":
                words.pop()
                break
            self._at += 1
        cast = _CASTS.get(" ".join(words))
        if cast is None:
            raise QueryError("syntax_error", f"a cast to {' '.join(words) or 'this'} is not supported")
        self._skip_length()
        return cast

    def _skip_length(self) -> None:
        # varchar(20), numeric(10, 2): SQLite has no use for it
        rest = "".join(token.text for token in self._tokens[self._at : self._at + 5])
        match = re.match(r"\(\d+(,\d+)?\)", rest)
        if match:
            self._at += 5 if match[1] else 3

    def _operand_start(self) -> int:
        at = len(self._out) - 1
        if at >= 0 and self._out[at].text == ")":
            at = self._opening(at)
            if at > 0 and self._out[at - 1].kind == "word" and not self._is_keyword(at - 1):
                at -= 1
        elif at < 0 or self._out[at].kind == "symbol" or self._is_keyword(at):
            raise QueryError("syntax_error", "there is nothing before `::` to cast")
        while at > 1 and self._out[at - 1].text == ".":
            at -= 2
        return at

    def _is_keyword(self, at: int) -> bool:
        return self._out[at].kind == "word" and self._out[at].text in _KEYWORDS

    def _opening(self, at: int) -> int:
        depth = 0
        for index in range(at, -1, -1):
            depth += {")": 1, "(": -1}.get(self._out[index].text, 0)
            if depth == 0:
                return index
        raise QueryError("syntax_error", "a parenthesis is not opened")


def _joined(tokens: list[Token]) -> str:
    """The tokens with spaces between them, but for parentheses, dots and commas, so that `count(*)` stays that."""
    out: list[str] = []
    before = Token("symbol", "(")
    for token in tokens:
        tight = before.text in {"(", "."} or token.text in {")", ".", ","} or (token.text, before.kind) == ("(", "word")
        out.append(token.text if tight else f" {token.text}")
        before = token
    return "".join(out)
