"""PostgreSQL's lexical rules: where strings, names, comments and placeholders begin and end."""

import re
from typing import Final, NamedTuple

from ctxhost.functions.queryerror import QueryError


class Token(NamedTuple):
    """A piece of SQL: string, name, param, cast, number, word (in lower case) or symbol."""

    kind: str
    text: str


_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|--[^\n\r]*)
    |(?P<comment>/\*)
    |(?P<prefixed>(?:[ebxn]|u&)'|u&")
    |(?P<string>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")+")
    |(?P<param>\$[0-9]{1,9}(?![0-9a-z_]))
    |(?P<dollar>\$(?:[a-z_]\w*)?\$)
    |(?P<cast>::)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?(?![0-9a-z_$]))
    |(?P<word>[^\W\d][\w$]*)
    |(?P<symbol>->>|->|<=|>=|<>|!=|<<|>>|\|\||[(),;.+\-*/%<>=|&~])""",
    re.VERBOSE | re.IGNORECASE,
)
_POSTGRES_SYMBOLS: Final = frozenset("[]^#@?!:")
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")


def is_text(text: str) -> bool:
    """Whether a database can hold it: no NUL, no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def tokens_of(sql: str, *, postgres: bool = False) -> list[Token]:
    """Everything but space, comments, and semicolons at the end; with `postgres`, also its own operators and brackets.

    Raises:
        QueryError: `syntax_error` for what cannot be read, and for a second statement.
    """
    if not is_text(sql):
        raise QueryError("syntax_error", "the statement has a NUL character or a lone surrogate")
    found, at = [], 0
    while at < len(sql):
        if postgres and sql[at] in _POSTGRES_SYMBOLS and not sql.startswith("::", at):
            found.append(Token("symbol", sql[at]))
            at += 1
            continue
        match = _TOKEN.match(sql, at)
        kind = match.lastgroup if match else None
        if match is None or kind is None or kind == "prefixed":
            raise QueryError("syntax_error", _hint(sql[at : at + 20]))
        at = match.end()
        if kind == "comment":
            at = _comment_end(sql, at)
        elif kind == "dollar":
            text, at = _dollar_string(sql, match.group(), at)
            found.append(Token("string", text))
        elif kind != "space":
            text = match.group()
            found.append(Token(kind, text.lower() if kind == "word" else text))
    return _one_statement(found)


def _hint(near: str) -> str:
    if near[0] in "?:@#":
        return f"{near[:1]!r} is not supported; parameters are written $1, $2, …"
    if near[0] in "'\"":
        return f"a quote is not closed: {near}"
    return f"cannot read this near {near!r}"


def _comment_end(sql: str, at: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, at)
        if edge is None:
            raise QueryError("syntax_error", "a comment is not closed")
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def _dollar_string(sql: str, tag: str, at: int) -> tuple[str, int]:
    end = sql.find(tag, at)
    if end < 0:
        raise QueryError("syntax_error", f"a string that {tag} opens is not closed")
    return "'" + sql[at:end].replace("'", "''") + "'", end + len(tag)


def _one_statement(tokens: list[Token]) -> list[Token]:
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if any(token == Token("symbol", ";") for token in tokens):
        raise QueryError("syntax_error", "one statement per query")
    return tokens
