"""OpenAPI 3.0 and 3.1 → operations.

One method of one path is one operation. Its payload is the JSON body as it is; an operation with parameters gets an
object with a member for each parameter, and one for the body. Schemas become JSON Schema 2020-12
(:mod:`connectors.importing.json_schemas`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from connectors.importing.found import Found, Operation, Refusal
from connectors.importing.json_schemas import Direction, Node, Pointers, SchemaWriter
from connectors.importing.sources import Documents
from connectors.rest import NOT_FOR_PAYLOADS
from registry.strict_yaml import BadYaml, read_yaml
from schemas.codec import MAX_JSON_DEPTH, read_json
from schemas.problem import Malformed, Problem
from schemas.reasons import Wording
from schemas.text import nfc
from schemas.validation import compile_schema

#: Methods of a path item (OpenAPI 3.1, 4.8.9), and whether the bus calls them.
_METHODS: Final = {
    **dict.fromkeys(("get", "post", "put", "patch", "delete"), True),
    **dict.fromkeys(("head", "options", "trace"), False),
}
#: How a parameter is written when nothing is said (OpenAPI 3.1, 4.8.12); anything else is not sent.
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple"}
#: Header parameters that OpenAPI itself ignores.
_IGNORED_HEADERS: Final = frozenset({"accept", "content-type", "authorization"})
_JSON: Final = re.compile(r"application/json *(;.*)?", re.IGNORECASE)
_FILES: Final = re.compile(r"(multipart/|application/octet-stream|image/|audio/|video/|application/pdf)", re.IGNORECASE)
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    name: str
    place: str
    required: bool
    schema: Node
    description: str


def read_openapi(documents: Documents) -> Found:
    """The operations of the description at ``documents.first``.

    Raises Malformed when it cannot be used as a whole: reasons of ``Documents``, ``import-not-openapi``,
    ``import-openapi-version``.
    """
    pointers = Pointers(documents, _parsed)
    root = pointers.root
    version = str(root.get("openapi", ""))
    if "openapi" not in root and "swagger" not in root:
        raise Malformed("import-not-openapi")
    if not version.startswith(("3.0.", "3.1.")):
        raise Malformed("import-openapi-version")
    return _Reader(pointers, documents.first, is_3_0=version.startswith("3.0.")).found()


def _parsed(data: bytes) -> Any:
    """The value of a description in JSON or YAML."""
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip()[:1] in ("{", "["):
            return read_json(text.encode(), max_depth=MAX_JSON_DEPTH * 2)
        [value] = read_yaml(text, any_key_is_text=True)
    except (Malformed, BadYaml, ValueError):
        raise Malformed("import-not-openapi") from None
    return value


class _Reader:
    """One description. Used by one thread."""

    def __init__(self, pointers: Pointers, place: str, *, is_3_0: bool) -> None:
        self._pointers = pointers
        self._place = place
        self._is_3_0 = is_3_0
        self._root: Node = Node(value=pointers.root, place=place)

    def found(self) -> Found:
        operations: list[Operation] = []
        refusals: list[Refusal] = []
        for path, value in _mapping(self._root.value.get("paths")).items():
            try:
                item = self._pointers.follow(self._root.at(value))
            except Problem as problem:
                refusals.append(Refusal(name=str(path), problem=problem))
                continue
            for method in _METHODS:
                if not isinstance(item.value.get(method), Mapping):
                    continue
                operation = item.at(item.value[method])
                name = str(operation.value.get("operationId") or f"{method.upper()} {path}")
                try:
                    operations.append(self._operation(name, str(path), item, method, operation))
                except Problem as problem:
                    refusals.append(Refusal(name=name, problem=problem))
        return Found(connector="rest", operations=tuple(operations), refusals=tuple(refusals))

    def _operation(self, name: str, path: str, item: Node, method: str, operation: Node) -> Operation:
        if not _METHODS[method]:
            raise Malformed("import-openapi-method")
        notes: list[Wording] = []
        parameters = list(self._parameters(item, operation, notes))
        body, body_required = self._body(operation)
        call, schema = self._request(path, method, parameters, body, body_required=body_required, notes=notes)
        reply = self._reply(operation, notes)
        for document in (schema, reply):
            if document is not None:
                compile_schema(document)
        settings, said = self._security(operation)
        by_path = f"{method} {_IN_BRACES.sub(_by_name, path)}"
        return Operation(
            name=name,
            code_words=str(operation.value.get("operationId") or by_path),
            title=_one_line(operation.value.get("summary")) or _one_line(operation.value.get("description")),
            one_way=reply is None,
            schema=schema,
            reply_schema=reply,
            call=call,
            address=self._address(operation, item),
            endpoint_settings=settings,
            notes=(*notes, *said),
        )

    # The request

    def _parameters(self, item: Node, operation: Node, notes: list[Wording]) -> Iterator[_Parameter]:
        """Those of the path and the operation; the operation's own go before (OpenAPI 3.1, 4.8.10)."""
        merged: dict[tuple[str, str], Node] = {}
        for node in (item, operation):
            for value in _list(node.value.get("parameters")):
                parameter = self._pointers.follow(node.at(value))
                merged[str(parameter.value.get("in")), str(parameter.value.get("name"))] = parameter
        for (place, name), node in merged.items():
            if place == "header" and name.lower() in _IGNORED_HEADERS:
                continue
            if place == "header" and name.lower() in NOT_FOR_PAYLOADS:
                note = Wording(
                    f"the header {name} is left out: the bus sets it itself",
                    f"bỏ trường đầu thư HTTP {name}: trục tự đặt trường này",
                )
                notes.append(note)
                continue
            if place == "cookie" and not node.value.get("required"):
                notes.append(Wording(f"the cookie {name} is left out", f"bỏ cookie {name}"))
                continue
            yield self._parameter(place, name, node)

    def _parameter(self, place: str, name: str, node: Node) -> _Parameter:
        value = node.value
        is_usual = place in _STYLES and value.get("style", _STYLES[place]) == _STYLES[place]
        if not is_usual or "content" in value or not isinstance(value.get("schema"), Mapping):
            raise Malformed("import-openapi-parameter", name=name)
        schema = node.at(value["schema"])
        shapes = self._shapes(schema)
        listed = place == "query" and value.get("explode", True) is True
        if "object" in shapes or ("array" in shapes and not listed):
            raise Malformed("import-openapi-parameter", name=name)
        return _Parameter(
            name=name,
            place=place,
            required=place == "path" or value.get("required") is True,
            schema=schema,
            description=_one_line(value.get("description")),
        )

    def _shapes(self, schema: Node) -> set[str]:
        """The types that a schema says it has; references and combinations are followed."""
        shapes: set[str] = set()
        seen: set[int] = set()
        rest = [schema]
        while rest:
            node = self._pointers.follow(rest.pop())
            if id(node.value) in seen:
                continue
            seen.add(id(node.value))
            said = node.value.get("type")
            shapes |= set(map(str, said)) if isinstance(said, list) else {str(said)} if said else set()
            shapes |= {"object"} if "properties" in node.value else set()
            parts = (part for keyword in ("allOf", "anyOf", "oneOf") for part in _list(node.value.get(keyword)))
            rest += (node.at(part) for part in parts)
        return shapes

    def _body(self, operation: Node) -> tuple[Node | None, bool]:
        """The schema of the JSON body, and whether there must be one."""
        if operation.value.get("requestBody") is None:
            return None, False
        body = self._pointers.follow(operation.at(operation.value["requestBody"]))
        return self._json_schema(body), body.value.get("required") is True

    def _json_schema(self, holder: Node) -> Node:
        """The schema of application/json among the media types of a body or an answer."""
        contents = _mapping(holder.value.get("content"))
        for media_type, content in contents.items():
            if _JSON.fullmatch(str(media_type)):
                return holder.at(_mapping(content).get("schema", {}))
        if any(_FILES.match(str(media_type)) for media_type in contents):
            raise Malformed("import-openapi-file")
        raise Malformed("import-openapi-body")

    def _request(
        self,
        path: str,
        method: str,
        parameters: Sequence[_Parameter],
        body: Node | None,
        *,
        body_required: bool,
        notes: list[Wording],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """How the operation is called, and the schema of its payload."""
        in_path = [parameter.name for parameter in parameters if parameter.place == "path"]
        if sorted(_IN_BRACES.findall(path)) != sorted(in_path) or not path.startswith("/"):
            raise Malformed("import-openapi-path")
        call: dict[str, Any] = {"method": method.upper(), "path": path}
        writer = SchemaWriter(self._pointers, Direction.REQUEST, is_3_0=self._is_3_0)
        if body is not None and not parameters:
            whole = writer.document(body)
            notes += writer.notes
            return call, whole
        names = [parameter.name for parameter in parameters]
        if len(set(names)) != len(names):
            raise Malformed("import-openapi-parameter-twice", name=next(n for n in names if names.count(n) > 1))
        for place, field in (("query", "query"), ("header", "headers")):
            if there := [parameter.name for parameter in parameters if parameter.place == place]:
                call[field] = there
        properties = {
            parameter.name: _described(writer.converted(parameter.schema), parameter) for parameter in parameters
        }
        required = [parameter.name for parameter in parameters if parameter.required]
        call["body"] = ""
        if body is not None:
            call["body"] = next(name for name in ("body", "content", "payload", "request-body") if name not in names)
            properties[call["body"]] = writer.converted(body)
            required += [call["body"]] if body_required else []
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        whole = writer.complete(schema)
        notes += writer.notes
        return call, whole

    # The answer

    def _reply(self, operation: Node, notes: list[Wording]) -> dict[str, Any] | None:
        """The schema of the answers that mean success, None when they have no content."""
        responses = _mapping(operation.value.get("responses"))
        good = [value for status, value in responses.items() if re.fullmatch(r"2(\d\d|XX)", str(status))]
        if not good and "default" in responses:
            good = [responses["default"]]
        answers = [self._pointers.follow(operation.at(value)) for value in good]
        schemas = [self._json_schema(answer) for answer in answers if _mapping(answer.value.get("content"))]
        if not schemas:
            return None
        if len(schemas) < len(answers):
            note = Wording(
                "some answers that mean success have no content: such an answer breaks the reply's schema",
                "có câu trả lời thành công không có nội dung: câu trả lời như vậy không đúng lược đồ trả lời",
            )
            notes.append(note)
        writer = SchemaWriter(self._pointers, Direction.REPLY, is_3_0=self._is_3_0)
        if len(schemas) == 1:
            whole = writer.document(schemas[0])
        else:
            whole = writer.complete({"anyOf": [writer.converted(schema) for schema in schemas]})
        notes += writer.notes
        return whole

    # The endpoint

    def _address(self, *nodes: Node) -> str:
        """The first server of the narrowest of the nodes that names any, else of the description.

        Variables stand at their defaults; a relative address is relative to where the description was read.
        """
        named = (_list(node.value.get("servers")) for node in (*nodes, self._root))
        server = next((servers[0] for servers in named if servers), {"url": "/"})
        url = str(_mapping(server).get("url", "/"))
        for name, variable in _mapping(_mapping(server).get("variables")).items():
            url = url.replace(f"{{{name}}}", str(_mapping(variable).get("default", "")))
        return urljoin(self._place, url).rstrip("/") if "://" in self._place or "://" in url else ""

    def _security(self, operation: Node) -> tuple[dict[str, Any], list[Wording]]:
        """Settings of the endpoint for the first way to be identified that the connector knows, or a note."""
        wanted = operation.value.get("security", self._root.value.get("security"))
        ways = [_mapping(way) for way in _list(wanted)]
        if not ways or {} in ways:
            return {}, []
        schemes = _mapping(_mapping(self._root.value.get("components")).get("securitySchemes"))
        for way in ways:
            if len(way) == 1 and (settings := self._scheme(schemes.get(next(iter(way))))):
                return settings, []
        unknown = Wording(
            "how the provider identifies callers is not one that the rest connector knows: see its settings",
            "kết nối rest không biết cách nhà cung cấp xác thực bên gọi: xem các thiết lập riêng của kết nối",
        )
        return {}, [unknown]

    def _scheme(self, value: Any) -> dict[str, Any]:
        scheme = _mapping(self._pointers.follow(self._root.at(value)).value) if isinstance(value, Mapping) else {}
        match scheme.get("type"), str(scheme.get("scheme", "")).lower(), scheme.get("in"):
            case "http", "basic" | "bearer" as means, _:
                return {"auth": means}
            case "apiKey", _, "header":
                return {"auth": "header", "auth_header": str(scheme.get("name", ""))}
            case "oauth2", _, _:
                flow = _mapping(_mapping(scheme.get("flows")).get("clientCredentials"))
                url = str(flow.get("tokenUrl", ""))
                if not url:
                    return {}
                # Below the endpoint's own address it moves with it.
                base = f"{self._address()}/"
                own = url[len(base) :] if url.startswith(base) else url.lstrip("/") if "://" not in url else ""
                return {"auth": "oauth2", **({"token_path": own} if own else {"token_url": url})}
        return {}


def _by_name(found: re.Match[str]) -> str:
    return f"by {found[1]}"


def _described(schema: Any, parameter: _Parameter) -> Any:
    if parameter.description and isinstance(schema, dict) and "description" not in schema:
        return {**schema, "description": parameter.description}
    return schema


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _one_line(value: Any) -> str:
    return nfc(" ".join(value.split()))[:300] if isinstance(value, str) else ""
