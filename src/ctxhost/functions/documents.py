"""What the documents of an app folder share: strict models, and one readable line for whatever is wrong with one."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError


class StrictModel(BaseModel):
    """Unknown keys are refused, types are not converted, and a parsed document does not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def first_problem(error: ValidationError) -> str:
    """One line for a reader: `where.it.is: what is wrong`, and how many more problems there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{_place(first['loc'])}: {_words(first['type'], first['msg'])}{more}"


def _place(loc: Sequence[str | int]) -> str:
    # pydantic marks a bad key of a mapping with a last step "[key]"
    return ".".join(str(step) for step in loc if step != "[key]") or "document"


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is required"
    return message.removeprefix("Value error, ")
