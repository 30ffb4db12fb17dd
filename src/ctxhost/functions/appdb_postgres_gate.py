"""What an app's SQL may name on PostgreSQL: the first of three fences.

The statement itself runs as it was written. This reading refuses, by name, what looks at the server rather than at the
app's tables, and what holds on to a session. The second fence are the privileges of the app's role, the third that its
database is its own; neither trusts this one.
"""

import re
from functools import lru_cache
from typing import Final

from ctxhost.functions.queryerror import QueryError
from ctxhost.functions.sql import Statement, is_write, parameters_of, read
from ctxhost.functions.sqltokens import Token

CLOSED_FUNCTIONS: Final = (
    "pg_.*|lo_.*|loread|lowrite|binary_upgrade_.*|set_config|current_setting|current_query|version|txid_.*|ts_stat"
    "|ts_rewrite|.*_to_xml(schema|_and_xmlschema)?|inet_(client|server)_.*|has_.*_privilege|to_reg.*|row_security_.*"
    "|[a-z]+_description|makeaclitem|acl.*"
)
"""Functions that apps may not call, as a regular expression that Python and PostgreSQL read alike."""

_CLOSED_NAMES: Final = re.compile(
    "(pg_|ctxhost).*|information_schema|reg(class|collation|config|dictionary|namespace|operator|oper|procedure|proc"
    "|role|type)|aclitem"
)
_CLOSED_CALLS: Final = re.compile(CLOSED_FUNCTIONS)


@lru_cache(maxsize=512)
def admit(sql: str) -> Statement:
    """The statement unchanged, with what has to be known before it runs.

    Raises:
        QueryError: `syntax_error` for what cannot be read, `not_allowed` for what apps may not use, `too_large`.
    """
    tokens = read(sql, postgres=True)
    for at, token in enumerate(tokens):
        name = _identifier(token)
        if name and (_CLOSED_NAMES.fullmatch(name) or (_is_called(tokens, at) and _CLOSED_CALLS.fullmatch(name))):
            raise QueryError("not_allowed", f"{name[:63]} is not open to apps")
    return Statement(sql, parameters_of(tokens), is_write(tokens))


def _identifier(token: Token) -> str:
    if token.kind == "name":
        return token.text[1:-1].replace('""', '"')
    return token.text if token.kind == "word" else ""


def _is_called(tokens: list[Token], at: int) -> bool:
    return tokens[at + 1 : at + 2] == [Token("symbol", "(")]
