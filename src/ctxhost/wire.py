"""Strict models of what comes over the wire, and the one way from a value to a model or to a refusal that names it."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from ctxhost.errors import Detail, InvalidRequest

MAX_DETAILS: Final = 20
"""A refusal names at most so many faults: its size is bounded, whatever was sent."""
MAX_SHOWN_CHARS: Final = 64
MAX_URL_CHARS: Final = 2_048
NO_NUL: Final = r"^[^\x00]*$"
"""The pattern of any text: PostgreSQL cannot store a NUL, and no name needs one."""

_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_CODES: Final = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "invalid_key": "unknown_field",
    "literal_error": "invalid_value",
    "string_pattern_mismatch": "invalid_string",
    "string_unicode": "invalid_string",
    "greater_than_equal": "too_small",
    "string_too_short": "too_small",
    "too_short": "too_small",
    "less_than_equal": "too_big",
    "string_too_long": "too_big",
    "too_long": "too_big",
}
_MESSAGES: Final = {
    "missing": "Is required",
    "extra_forbidden": "Is not a field of this request",
    "invalid_key": "Is not a field of this request",
    "model_type": "Must be an object",
    "dict_type": "Must be an object",
    "list_type": "Must be an array",
    "bool_type": "Must be true or false",
    "int_type": "Must be an integer",
    "string_type": "Must be a string",
    "string_unicode": "Must be text that UTF-8 can carry",
}


class _LeftOut:
    """For `T | None`: the field may be left out (then it is None), and an explicit null is refused."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = handler(source)
        assert nullable["type"] == "nullable", "LEFT_OUT belongs on `T | None`"
        schema: CoreSchema = nullable["schema"]
        return schema


LEFT_OUT: Final = _LeftOut()
"""`Annotated[T | None, LEFT_OUT]`: None when the field is left out; an explicit null is refused."""


def _query_int(value: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", value):
        raise PydanticCustomError("invalid_type", "Must be an integer of 1 to 6 digits")
    return int(value)


def _query_bool(value: str) -> bool:
    if value not in ("true", "false", "1", "0"):
        raise PydanticCustomError("invalid_type", "Must be true, false, 1 or 0")
    return value in ("true", "1")


QUERY_INT: Final = BeforeValidator(_query_int)
"""An integer in a query string, `^[0-9]{1,6}$`. Stands after the bounds: `Annotated[int, Field(ge=1), QUERY_INT]`."""
QueryBool = Annotated[bool, BeforeValidator(_query_bool)]
"""A boolean in a query string: true, false, 1 or 0."""
HttpUrl = Annotated[
    str,
    Field(max_length=MAX_URL_CHARS),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": MAX_URL_CHARS}),
]
"""A URL as far as its length goes; who takes it checks the rest, with `split_http_url`."""


def split_http_url(url: str) -> SplitResult | None:
    """The parts of a plain http(s) URL, or None.

    Refused is whatever two parsers could read differently: white space, control characters, backslashes, credentials,
    a host with anything but ASCII letters, digits, dots and dashes (a bracketed IPv6 address is fine), a bad port.
    """
    if len(url) > MAX_URL_CHARS or "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    plain = bool(host) and "@" not in parts.netloc and port != 0
    named = plain and (bool(_HOST.fullmatch(host or "")) or parts.netloc.startswith("["))
    return parts if named and parts.scheme in ("http", "https") else None


def _tidy(schema: dict[str, Any]) -> None:
    """Drop from a JSON schema what says nothing: titles, and null as the default of what may be left out."""
    schema.pop("title", None)
    for prop in schema.get("properties", {}).values():
        prop.pop("title", None)
        if "default" in prop and prop["default"] is None:
            del prop["default"]


class Wire(BaseModel):
    """The base of request models: strict types, unknown fields refused, names as they are on the wire."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra=_tidy)


class CamelWire(Wire):
    """A `Wire` whose names are camelCase on the wire."""

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel)


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], data: Any, *, context: Any = None) -> M:
    """`data`, decoded JSON or an equal Python value, as the model; `context` goes to its validators.

    Raises:
        InvalidRequest: with a detail for each fault, up to `MAX_DETAILS`.
    """
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise refusal_of(error) from None


def read_query(model: type[M], query: Sequence[tuple[str, str]]) -> M:
    """The decoded pairs of a query string as the model.

    Raises:
        InvalidRequest: as `read` does, and for a name that comes twice.
    """
    repeated = [name for name, times in Counter(name for name, _ in query).items() if times > 1]
    if repeated:
        raise _refusal([_detail([name], "Must be given once", "duplicate") for name in repeated])
    return read(model, dict(query))


def refusal_of(error: ValidationError) -> InvalidRequest:
    """The same faults as pydantic found, under the wire's names and our own stable codes; no input is echoed."""
    faults = error.errors(include_url=False, include_context=True, include_input=False)
    return _refusal([_detail_of(fault) for fault in faults])


def shown(name: str) -> str:
    """A name that a caller chose, short and printable enough to be echoed."""
    clean = name.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= MAX_SHOWN_CHARS else clean[:MAX_SHOWN_CHARS] + "…"


def _detail_of(fault: ErrorDetails) -> Detail:
    kind, loc = fault["type"], fault["loc"]
    if len(loc) > 2 and loc[-1] == "[key]":  # pydantic's mark for "the key itself"; the key is before it
        loc = loc[:-1]
    code = _CODES.get(kind) or ("invalid_type" if kind.endswith("_type") else kind)
    return _detail(loc, _message(fault), code)


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "string_pattern_mismatch" and fault.get("ctx", {}).get("pattern") == NO_NUL:
        return "Must not contain a NUL character"
    told = _MESSAGES.get(fault["type"]) or fault["msg"]
    return re.sub(r"^(Input|String|Value|List) should ", "Must ", told)


def _detail(path: Sequence[str | int], message: str, code: str) -> Detail:
    return {"path": [shown(step) if isinstance(step, str) else step for step in path], "message": message, "code": code}


def _refusal(details: Sequence[Detail]) -> InvalidRequest:
    first, more = details[0], len(details) - 1
    where = ".".join(map(str, first["path"])) or "The request"
    tail = f" (and {more} more)" if more else ""
    return InvalidRequest(f"{where}: {first['message']}{tail}", details=details[:MAX_DETAILS])
