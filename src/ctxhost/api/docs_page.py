"""The API for people: one self-contained HTML page, rendered from the OpenAPI document and nothing else."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from ctxhost.api.problems import json_response
from ctxhost.api.routing import Answer, Call, Operation

Json = Mapping[str, Any]

_STYLE: Final = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")

_CSP: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def documentation(document: Json) -> list[Operation[Any, Any]]:
    """The two operations that show a document: `GET /openapi.json` and `GET /docs`, open to all."""
    page = docs_page(document)

    async def as_json(_: Call[Any, Any]) -> Response:
        return json_response(document)

    async def as_html(_: Call[Any, Any]) -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": _CSP})

    return [
        _open_page("/openapi.json", "openapiDocument", as_json, "application/json"),
        _open_page("/docs", "docsPage", as_html, "text/html"),
    ]


def _open_page(path: str, name: str, handler: Any, media_type: str) -> Operation[Any, Any]:
    answers = {200: Answer(description="The page.", media_type=media_type)}
    summary = f"What this API can do, as {media_type}"
    return Operation(
        method="GET",
        path=path,
        name=name,
        handler=handler,
        summary=summary,
        tag="docs",
        answers=answers,
        auth="none",
        listed=False,
    )


def docs_page(document: Json) -> str:
    """The whole page. Everything that comes from the document is escaped."""
    info = document["info"]
    sections = "".join(_section(document, tag) for tag in document["tags"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(info["title"])}</title>
<style>{_STYLE}</style>
</head>
<body>
<nav aria-label="Operations"><a class="home" href="#top">{escape(info["title"])}</a>{_navigation(document)}</nav>
<main id="top">
<header><h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>
{_prose(info["description"])}
<p>Machine-readable: <a href="openapi.json">openapi.json</a>. In the examples <code>$BASE_URL</code>,
<code>$APP_ID</code> and <code>$API_KEY</code> are yours to fill in.</p></header>
{sections}
{_errors(document)}
</main>
</body>
</html>
"""


def _of_tag(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _navigation(document: Json) -> str:
    groups = []
    for tag in document["tags"]:
        links = "".join(
            f'<li><a href="#{escape(operation["operationId"])}">{_badge(method)}<span>{escape(operation["summary"])}'
            "</span></a></li>"
            for method, _, operation in _of_tag(document, tag["name"])
        )
        groups.append(f"<h2>{escape(tag['name'])}</h2><ul>{links}</ul>")
    return (
        "".join(groups)
        + '<h2>Errors</h2><ul><li><a href="#errors"><span>Every code, and what to do</span></a></li></ul>'
    )


def _section(document: Json, tag: Json) -> str:
    operations = "".join(_operation(document, *found) for found in _of_tag(document, tag["name"]))
    return f"<section><h2>{escape(tag['name'])}</h2>{_prose(tag['description'])}{operations}</section>"


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    key = operation["security"]
    scopes = " or ".join(f"<code>{escape(scope)}</code>" for scope in (key[0]["serviceKey"] if key else []))
    access = f"service key{', scope ' + scopes if scopes else ''}" if key else "open to all"
    description = operation["description"] if operation["description"] != operation["summary"] else ""
    name = escape(operation["operationId"])
    return f"""<article id="{name}">
<h3>{escape(operation["summary"])}</h3>
<p class="route">{_badge(method)}<code>{_path(path)}</code><span class="access">{access}</span></p>
{_prose(description)}
<div class="columns"><div>
{_parameters(document, operation["parameters"])}
{_body(document, operation)}
{_answers(document, operation)}
{_codes(operation)}
</div><div class="examples">
<h4>Try it</h4><pre><code>{escape(curl(method, path, operation), quote=False)}</code></pre>
{_answer_examples(operation)}
</div></div>
</article>"""


def curl(method: str, path: str, operation: Json) -> str:
    """A command that a reader can paste; path parameters become `$UPPER_CASE` variables of the shell."""
    target = re.sub(r"{(\w+)}", lambda match: "$" + match[1].upper(), path)
    wanted = [
        f"{parameter['name']}={parameter['schema'].get('examples', ['…'])[0]}"
        for parameter in operation["parameters"]
        if parameter["in"] == "query" and parameter["required"]
    ]
    url = f"$BASE_URL{target}" + ("?" + "&".join(wanted) if wanted else "")
    lines = [f'curl {"" if method == "get" else f"-X {method.upper()} "}"{url}"']
    if operation["security"]:
        lines.append('-H "authorization: Bearer $API_KEY"')
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        lines.append('-H "content-type: application/json"')
        lines.append("-d " + shlex.quote(json.dumps(content.get("example", {}), ensure_ascii=False, indent=2)))
    return " \\\n  ".join(lines)


def _parameters(document: Json, parameters: Iterable[Json]) -> str:
    rows = [
        _row(parameter["name"], parameter["schema"], parameter.get("description", ""), document, parameter["required"])
        for parameter in parameters
        if parameter["in"] != "header"
    ]
    headers = [
        _row(parameter["name"], parameter["schema"], parameter["description"], document, required=False)
        for parameter in parameters
        if parameter["in"] == "header"
    ]
    return _table("Parameters", rows) + _table("Headers", headers)


def _body(document: Json, operation: Json) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return _table("Body", list(_fields(document, content["schema"]))) if content else ""


def _answers(document: Json, operation: Json) -> str:
    told = []
    for status, answer in operation["responses"].items():
        if status < "300":
            content: Json = next(iter(answer.get("content", {}).values()), {})
            rows = list(_fields(document, content.get("schema", {}), answer=True))
            head = f'<h4>Answer <span class="ok">{status}</span></h4>{_prose(answer["description"])}'
            told.append(head + _table("", rows))
    return "".join(told)


def _answer_examples(operation: Json) -> str:
    return "".join(
        f"<h4>Answer {status}</h4>{_example(content['example'])}"
        for status, answer in operation["responses"].items()
        for content in answer.get("content", {}).values()
        if status < "300" and "example" in content
    )


def _codes(operation: Json) -> str:
    chips = "".join(
        f'<a class="chip" href="#{escape(code)}"><b>{status}</b> {escape(code)}</a>'
        for status, answer in operation["responses"].items()
        if status >= "400"
        for code in answer["content"]["application/json"]["examples"]
    )
    return f'<h4>Refusals</h4><p class="chips">{chips}</p>'


def _errors(document: Json) -> str:
    found = _all_errors(document)
    rows = "".join(
        f'<tr id="{escape(code)}"><td>{status}</td><td><code>{escape(code)}</code></td>'
        f"<td>{escape(error['type'])}</td><td>{_inline(error['remediation'])}</td></tr>"
        for code, (status, error) in sorted(found.items(), key=lambda pair: (pair[1][0], pair[0]))
    )
    _, shape = found.get("invalid_request") or found["not_found"]
    return f"""<section id="errors"><h2>Errors</h2>
<p>Every refusal has this shape; one with a status below 500 has changed nothing. Every response carries
<code>x-request-id</code>, which names it in the log.</p>{_example({"error": shape})}
<div class="scroll"><table><thead><tr><th>Status</th><th>Code</th><th>Type</th><th>What to do</th></tr></thead>
<tbody>{rows}</tbody></table></div></section>"""


def _all_errors(document: Json) -> dict[str, tuple[str, Json]]:
    answers = list(document["components"]["responses"].items())
    for item in document["paths"].values():
        for operation in item.values():
            answers += operation["responses"].items()
    return {
        code: (status, example["value"]["error"])
        for status, answer in answers
        for content in answer.get("content", {}).values()
        for code, example in content.get("examples", {}).items()
    }


def _fields(document: Json, schema: Json, *, prefix: str = "", answer: bool = False) -> Iterator[str]:
    """The table rows of an object's fields, those of objects in it below them."""
    resolved = _resolve(document, schema)
    for name, prop in resolved.get("properties", {}).items():
        required = not answer and name in resolved.get("required", ())
        yield _row(prefix + name, prop, prop.get("description", ""), document, required=required)
        yield from _fields(document, prop, prefix=f"{prefix}{name}.", answer=answer)


def _resolve(document: Json, schema: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _row(name: str, schema: Json, description: str, document: Json, required: bool) -> str:
    default = f" Default <code>{escape(_json(schema['default']))}</code>." if "default" in schema else ""
    mark = '<span class="required">required</span>' if required else ""
    # A long dotted name may break after a dot.
    shown = escape(name).replace(".", ".<wbr>")
    return (
        f'<tr><td><code>{shown}</code>{mark}<div class="type">{_type(document, schema)}</div></td>'
        f"<td>{_inline(description)}{default}</td></tr>"
    )


def _type(document: Json, schema: Json) -> str:
    """A schema in a few words, as HTML."""
    schema = _resolve(document, schema)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " <i>or</i> ".join(f"<code>{escape(_json(value))}</code>" for value in values)
    if "anyOf" in schema:
        return " <i>or</i> ".join(_type(document, choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    if isinstance(values, dict):
        return f"map to {_type(document, values)}"
    kind = schema.get("type", "any")
    if schema.get("format") in ("date-time", "uri"):
        kind = {"date-time": "RFC 3339 time", "uri": "URL"}[schema["format"]]
    return escape(f"{kind}{_bounds(schema)}")


def _bounds(schema: Json) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']:,}–{schema['maximum']:,}"
    if "maxLength" in schema:
        least = schema.get("minLength", 0)
        return (
            f", {least}–{schema['maxLength']:,} characters" if least else f", up to {schema['maxLength']:,} characters"
        )
    return ""


def _table(title: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    head = f"<h4>{title}</h4>" if title else ""
    return f'{head}<div class="scroll"><table class="fields"><tbody>{body}</tbody></table></div>' if body else ""


def _example(value: Any) -> str:
    text = escape(json.dumps(value, ensure_ascii=False, indent=2), quote=False)
    marked = re.sub(r'^( *)("(?:[^"\\]|\\.)*")(?=:)', r'\1<span class="key">\2</span>', text, flags=re.MULTILINE)
    return f"<pre><code>{marked}</code></pre>"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _badge(method: str) -> str:
    return f'<b class="method {escape(method)}">{escape(method.upper().replace("DELETE", "DEL"))}</b>'


def _path(path: str) -> str:
    """A path that may break after its slashes, its parameters marked."""
    return re.sub(r"({\w+})", r"<i>\1</i>", escape(path).replace("/", "/<wbr>"))


def _inline(text: str) -> str:
    """Plain text with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())
