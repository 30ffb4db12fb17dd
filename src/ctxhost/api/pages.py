"""One page of a list: how it is asked for."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ctxhost.wire import LEFT_OUT, NO_NUL, QUERY_INT, Wire, read_query


class ListPage(Wire):
    """A page, newest first."""

    limit: Annotated[int, Field(ge=1, le=100), QUERY_INT] = Field(default=20, description="How many at most.")
    cursor: Annotated[Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)] | None, LEFT_OUT] = Field(
        default=None, description="`nextCursor` of the page before."
    )


def parse_page(query: Sequence[tuple[str, str]]) -> ListPage:
    """A page, from the pairs of a query string. Raises `InvalidRequest`."""
    return read_query(ListPage, query)
