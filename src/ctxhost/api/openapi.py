"""The OpenAPI 3.1 document of a list of operations: everything in it is taken from what the routes are made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ctxhost.api.problems import error_body
from ctxhost.api.routing import ANY, Answer, Operation
from ctxhost.errors import (
    InsufficientCredits,
    InvalidRequest,
    LedgerConflict,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    Refusal,
)

Json = dict[str, Any]
_Refs = Mapping[Any, Json]
"""The reference to a model's schema, by (model, mode)."""

_REF: Final = "#/components/schemas/{model}"
_REQUEST_ID: Final = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
_DETAIL: Final = {
    "type": "object",
    "required": ["path", "message", "code"],
    "properties": {
        "path": {
            "type": "array",
            "items": {"type": ["string", "integer"]},
            "description": "Starts with the name of the field; empty when the body as a whole is at fault.",
        },
        "message": {"type": "string"},
        "code": {"type": "string", "description": "The finer reason, such as `missing`, `too_big`, `unknown_field`."},
    },
}
_WITH_FACTS: Final[Mapping[type[Refusal], Refusal]] = {
    InsufficientCredits: InsufficientCredits(required_nano_usd=65_000_000, available_nano_usd=20_000_000),
    InvalidRequest: InvalidRequest.of("meetingUrl", "Is required", "missing"),
    LedgerConflict: LedgerConflict("This key was used before with another amount.", field="amount"),
    Overloaded: Overloaded(),
}
_ANYWHERE: Final = (NotFound, MethodNotAllowed)
"""What a call meets that finds no operation."""


def openapi_document(
    operations: Sequence[Operation[Any, Any]],
    *,
    title: str,
    version: str,
    description: str,
    path_parameters: Mapping[str, str],
    tags: Mapping[str, str],
) -> Json:
    """The document, equal for equal operations.

    `path_parameters` and `tags` describe every name that the listed operations use.

    Raises:
        KeyError: one of them is not described.
    """
    listed = [operation for operation in operations if operation.listed and operation.method != ANY]
    refs, schemas = _schemas(listed)
    paths: dict[str, Json] = {}
    for operation in listed:
        item = paths.setdefault(operation.path_format, {})
        item[operation.method.lower()] = _operation(operation, refs, path_parameters)
    used = {operation.tag for operation in listed}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "tags": [{"name": name, "description": tags[name]} for name in sorted(used, key=list(tags).index)],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _error_schema(listed)},
            "responses": {str(refusal.status): _refusal_answer([refusal]) for refusal in _ANYWHERE},
            "headers": {"RequestId": {"description": "Names this response in the log.", "schema": {"type": "string"}}},
            "securitySchemes": {
                "serviceKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "bb_sk_…",
                    "description": "A service key of the app's owner.",
                }
            },
        },
    }


def refusals_of(operation: Operation[Any, Any]) -> list[type[Refusal]]:
    """Every refusal that a call of this operation can meet, each once, by status."""
    found = dict.fromkeys([*operation.implied_refusals(), *operation.refusals])
    return sorted(found, key=lambda refusal: refusal.status)


def _schemas(operations: Iterable[Operation[Any, Any]]) -> tuple[_Refs, Json]:
    used: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for operation in operations:
        if operation.body is not None:
            used[operation.body, "validation"] = None
        for answer in operation.answers.values():
            if answer.model is not None:
                used[answer.model, "serialization"] = None
    refs, definitions = models_json_schema(list(used), by_alias=True, ref_template=_REF)
    return refs, definitions.get("$defs", {})


def _operation(operation: Operation[Any, Any], refs: _Refs, path_parameters: Mapping[str, str]) -> Json:
    told: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description or operation.summary,
        "security": [{"serviceKey": [operation.scope] if operation.scope else []}] if operation.auth == "key" else [],
        "parameters": [
            *(_path_parameter(name, path_parameters[name]) for name in operation.path_names()),
            *_query_parameters(operation.query),
            *(
                {"name": header.name, "in": "header", "description": header.description, "schema": dict(header.schema)}
                for header in operation.headers
            ),
        ],
        "responses": {
            **{str(status): _answer(answer, refs) for status, answer in operation.answers.items()},
            **_refusal_answers(refusals_of(operation)),
        },
    }
    if operation.body is not None:
        content: Json = {"schema": refs[operation.body, "validation"]}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    return told


def _path_parameter(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _query_parameters(model: type[BaseModel] | None) -> list[Json]:
    if model is None:
        return []
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    parameters = []
    for name, prop in schema.get("properties", {}).items():
        described = {"description": prop.pop("description")} if "description" in prop else {}
        parameters.append({"name": name, "in": "query", "required": name in required, **described, "schema": prop})
    return parameters


def _answer(answer: Answer, refs: _Refs) -> Json:
    told: Json = {"description": answer.description, "headers": _REQUEST_ID}
    if answer.media_type is not None:
        content: Json = {"schema": refs[answer.model, "serialization"] if answer.model else {}}
        if answer.example is not None:
            content["example"] = answer.example
        told["content"] = {answer.media_type: content, **{other: {} for other in answer.more_media_types}}
    return told


def _refusal_answers(refusals: Sequence[type[Refusal]]) -> dict[str, Json]:
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in refusals:
        by_status.setdefault(refusal.status, []).append(refusal)
    return {str(status): _refusal_answer(sharing) for status, sharing in by_status.items()}


def _refusal_answer(sharing: Sequence[type[Refusal]]) -> Json:
    content = {
        "schema": {"$ref": _REF.format(model="Error")},
        "examples": {refusal.code: {"value": _example(refusal)} for refusal in sharing},
    }
    codes = " or ".join(f"`{refusal.code}`" for refusal in sharing)
    return {"description": codes, "headers": _REQUEST_ID, "content": {"application/json": content}}


def _example(refusal: type[Refusal]) -> Json:
    """The body of this refusal as it might be met."""
    if refusal in _WITH_FACTS:
        return error_body(_WITH_FACTS[refusal])
    error = {"message": _sentence(refusal), "type": refusal.type, "code": refusal.code}
    return {"error": {**error, "remediation": refusal.remediation}}


def _sentence(refusal: type[Refusal]) -> str:
    told = refusal.__dict__.get("__doc__")
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", refusal.__name__).capitalize()
    return str(told).split("\n", maxsplit=1)[0] if told else f"{words}."


def _error_schema(operations: Iterable[Operation[Any, Any]]) -> Json:
    refusals: set[type[Refusal]] = set(_ANYWHERE).union(*map(refusals_of, operations))
    number = {"type": "number"}
    properties: Json = {
        "message": {"type": "string", "description": "What went wrong, for people."},
        "type": {"type": "string", "enum": sorted({refusal.type for refusal in refusals})},
        "code": {"type": "string", "enum": sorted({refusal.code for refusal in refusals})},
        "remediation": {"type": "string", "description": "What to do next, in one sentence."},
        "details": {"type": "array", "minItems": 1, "items": _DETAIL, "description": "Of `invalid_request`."},
        "required_usd": {**number, "description": "Of `insufficient_credits`: what has to be held."},
        "available_usd": {**number, "description": "Of `insufficient_credits`: what there is."},
        "checks": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Of `not_ready`: what was looked at; the last is what failed.",
        },
    }
    error = {"type": "object", "required": ["message", "type", "code", "remediation"], "properties": properties}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
