"""The OpenAPI 3.1 document, from the routes and the types of their bodies and answers."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from capsa import __version__
from capsa.decisions._learning import to_camel
from capsa.decisions._tools import PolicyInForce
from capsa.policies import Explanation
from capsa.server._problems import KINDS
from capsa.server._router import Route
from capsa.server._shapes import Learning, Problem
from capsa.server._spec import Spec
from capsa.tools import Used
from capsa.wire import CBOR, JSON

_REF: Final = "#/components/schemas/{name}"
#: What any call may answer: no key, a store that is not there, too much at once.
_ANY: Final = (
    "malformed-request",
    "header-too-large",
    "overloaded",
    "starting",
    "stopping",
    "store-unwritable",
    "internal",
)
_KEYED: Final = ("unauthorized", "foreign-origin")
_NAME: Final = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}
_SEGMENTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "tenant": ({**_NAME, "examples": ["default"]}, "The tenant: an organisation or environment."),
    "job": ({**_NAME, "examples": ["default"]}, "The job: an independent learning context."),
    "capsule": ({**_NAME, "examples": ["router"]}, "The capsule's name."),
    "decisionId": ({"type": "string", "minLength": 1, "maxLength": 255}, "As `decide` gave it."),
    "invocationId": ({"type": "string", "minLength": 1, "maxLength": 255}, "As `invoke` gave it."),
    "type": ({"type": "string", "enum": sorted(KINDS)}, "The last part of a problem's type."),
}


#: What a guest can be given. msgspec has no word for a type that holds itself.
_INPUT_VALUE: Final = {
    "description": "A field of the input: null is as good as absent, and a list holds only texts or only numbers.",
    "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "number"}},
        {"type": "object", "additionalProperties": {"$ref": _REF.format(name="InputValue")}},
    ],
}
#: What a type cannot say: which of its keys exclude each other.
_RULES: Final[dict[str, dict[str, Any]]] = {
    # All of it always stands in an answer, though Python has defaults for it.
    **{
        type_.__name__: {"required": list(map(to_camel, type_.__struct_fields__))}
        for type_ in (Used, Explanation)
    },
    "DecayChange": {"minProperties": 1, "maxProperties": 1},
    "HorizonChange": {"minProperties": 1, "not": {"required": ["after", "afterSeconds"]}},
    "SpecDecay": {"minProperties": 1, "maxProperties": 1},
    "SpecMetric": {"not": {"required": ["budget", "range"]}},
    "SpecContext": {"not": {"required": ["values", "buckets"]}},
    "Spec": {
        "oneOf": [{"required": ["options"]}, {"required": ["strategies"]}],
        "dependentRequired": {"valid": ["strategies"], "algorithm": ["options"], "baseline": ["options"]},
    },
    "FeedbackPost": {
        "anyOf": [{"required": ["decisionId"]}, {"required": ["option", "reward", "contextKey"]}]
    },
    "LearningChange": {"not": {"required": ["rails", "safety"]}},
}
_SPEC: Final = {
    "name": "router",
    "options": ["cheap_fast", "balanced", "expensive_accurate"],
    "contexts": ["task_type", "customer_tier", "urgency"],
    "reward": {"quality": 0.6, "latency_ms": {"weight": -0.4, "budget": 2000}},
}
#: What a body may look like, by operation.
_EXAMPLES: Final[dict[str, Any]] = {
    "decide": {
        "input": {"task_type": "legal", "customer_tier": "enterprise", "urgency": "normal"},
        "options": ["cheap_fast", "balanced"],
        "current": "balanced",
    },
    "feedback": {
        "strategyId": 0,
        "option": "balanced",
        "reward": 0.465,
        "contextKey": "legal|enterprise|normal",
    },
    "decideBatch": {
        "requests": [{"input": {"task_type": "legal"}}, {"contextKey": "legal|enterprise|normal"}]
    },
    "feedbackBatch": {
        "events": [{"strategyId": 0, "option": 1, "reward": 1.0, "contextKey": "legal|enterprise|normal"}]
    },
    "putLearning": {"mode": "shadow", "rails": {"freeze": True}},
    "patchLearning": {"rails": {"minExploration": 0.05}},
    "invoke": {"input": {"url": "https://api.example.com/v1"}},
    "compensate": {"input": {"amount": 5}, "output": {"receipt": "r-81"}},
    "putPolicy": {
        "schema": 1,
        "name": "fetcher",
        "grants": {"clock": True, "http": [{"hosts": ["api.example.com"]}]},
        "limits": {"cpuMs": 20},
    },
    "createJob": {"id": "routing", "description": "Which model answers.", "metadata": {"owner": "ml"}},
}
#: Parameters that many operations take.
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    **{
        name: {"name": name, "in": "path", "required": True, "schema": schema, "description": text}
        for name, (schema, text) in _SEGMENTS.items()
    },
    "requestId": {
        "name": "X-Request-Id",
        "in": "header",
        "schema": {"type": "string"},
        "description": "Said back if it is 1 to 64 letters, digits, `-`, `_` or `.`; otherwise the server makes one.",
    },
}
_TOLD: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "description": "Names the request, in the log and in problem documents.",
        "required": True,
    },
    "ETag": {
        "schema": {"type": "string", "pattern": '^"([0-9]+|b2:[0-9a-f]{64})"$'},
        "description": "The document's version, or a policy's digest.",
        "required": True,
    },
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "What to show.", "required": True},
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds until trying again may help.",
        "required": True,
    },
}


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The document of some routes."""
    types: list[Any] = [Problem, Spec]
    for route in routes:
        types += [each for each in (route.body, *_types(route.answer)) if each not in (None, bytes)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = {id(type_): schema for type_, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    tags = dict.fromkeys(route.tag for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Capsa",
            "version": __version__,
            "summary": "Decisions that learn from feedback, in sandboxed capsules.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "security": [{"adminKey": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"adminKey": {"type": "http", "scheme": "bearer"}},
            "parameters": _PARAMETERS,
            "headers": _TOLD,
            "schemas": {
                name: _spelled(name, schema) | _RULES.get(name, {})
                for name, schema in sorted({**components, "InputValue": _INPUT_VALUE}.items())
            },
        },
    }


def _types(answer: Any) -> list[Any]:
    """The types that an answer names."""
    if isinstance(answer, dict):
        return [each[0] if isinstance(each, list) else each for each in answer.values()]
    return [] if answer is None else [answer]


def _operation(route: Route, schemas: dict[int, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"$ref": f"#/components/parameters/{name}"} for name in _SEGMENTS if f"{{{name}}}" in route.path
    ]
    parameters += [
        {"name": query.name, "in": "query", "schema": query.schema, "description": query.text}
        | ({"required": True} if query.required else {})
        for query in route.query
    ]
    parameters += [
        {"name": name, "in": "header", "schema": _HEADERS[name], "description": text}
        for name, text in route.headers.items()
    ]
    parameters.append({"$ref": "#/components/parameters/requestId"})
    told: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": _responses(route, schemas),
    }
    if route.body is bytes:
        told["requestBody"] = {
            "required": True,
            "description": "A spec or a component, told apart by the first bytes; the content type does not matter.",
            "content": {
                "application/yaml": {"schema": {"$ref": _REF.format(name="Spec")}, "example": _SPEC},
                "application/wasm": {"schema": {"type": "string", "contentMediaType": "application/wasm"}},
            },
        }
    elif route.body is not None:
        content = {"schema": schemas[id(route.body)], "example": _EXAMPLES[route.name]}
        told["requestBody"] = {
            "required": True,
            "description": f"Read as JSON under every content type but `{CBOR}`, which is read without tags.",
            "content": {JSON: content, CBOR: content},
        }
    if route.public:
        told["security"] = [{}, {"adminKey": []}]
    return told


_HEADERS: Final = {
    "Idempotency-Key": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    # One that is not of this document matches nothing: 412.
    "If-Match": {
        "type": "string",
        "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$',
        "examples": ["*", '"7"'],
    },
}


def _responses(route: Route, schemas: dict[int, Any]) -> dict[str, Any]:
    answer = route.answer
    if isinstance(answer, dict):
        properties = {name: _listed(each, schemas) for name, each in answer.items()}
        schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(answer)}
    else:
        schema = schemas[id(answer)]
    # The document itself and pages for people come in one form.
    media = (JSON, CBOR) if route.media == JSON and route.name != "openapi" else (route.media,)
    good: dict[str, Any] = {
        "description": route.summary,
        "headers": _told("X-Request-Id", *(["ETag"] if route.answer in (Learning, PolicyInForce) else [])),
        "content": {each: {"schema": schema} for each in media},
    }
    responses: dict[str, Any] = {str(route.status): good}
    by_status: dict[int, list[str]] = {}
    for name in (*route.problems, *(() if route.public else _KEYED), *_ANY):
        by_status.setdefault(KINDS[name].status, []).append(name)
    for status, names in sorted(by_status.items()):
        listed = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        responses[str(status)] = {
            "description": listed,
            "headers": _told("X-Request-Id", *_BESIDE.get(status, ())),
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
        }
    return responses


#: What refusals say in further headers, by status.
_BESIDE: Final = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}


def _told(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _listed(each: Any, schemas: dict[int, Any]) -> dict[str, Any]:
    if isinstance(each, list):
        return {"type": "array", "items": schemas[id(each[0])]}
    if each is str:
        return {"type": "string"}
    return {"type": "array", "items": schemas[id(each)]}


def _spelled(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with our own names in camel case, and its text shared out among its properties."""
    text, _, attributes = schema.get("description", "").partition("Attributes:")
    told = {**schema, "description": _one_line(text)}
    texts = {to_camel(match[1]): _one_line(match[2]) for match in _ATTRIBUTE.finditer(attributes)}
    # Keys in camel case are so by their type; a spec is YAML, where they are snake case.
    spell = str if name.startswith("Spec") else _camel
    if name in _NEVER_NULL:
        told["properties"] = {key: _not_null(value) for key, value in told["properties"].items()}
    if "properties" in told:
        told["properties"] = {
            spell(key): _property(value)
            | ({"description": texts[to_camel(key)]} if to_camel(key) in texts else {})
            for key, value in told["properties"].items()
        }
    if told.get("required"):
        told["required"] = [spell(key) for key in told["required"]]
    else:
        told.pop("required", None)
    return told


#: What is null of these in Python is left out of JSON, and refused where it is sent.
_NEVER_NULL: Final = frozenset({"Policy", "Grants", "Limits"})


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    told = dict(schema)
    kinds = [kind for kind in told.pop("anyOf", ()) if kind != {"type": "null"}]
    if kinds:
        told = {**told, **kinds[0]}
    match told.get("default", 0):
        case None:
            del told["default"]
        case dict() as default:
            told["default"] = {key: value for key, value in default.items() if value is not None}
    return told


def _property(schema: dict[str, Any]) -> dict[str, Any]:
    """A property as JSON has it: names of ours in camel case, and no default that it does not allow itself."""
    told = dict(schema)
    if told.get("minItems") and not told.get("default", True):
        # It stands for something else.
        del told["default"]
    if "enum" in told:
        # Of a name that is listed in both spellings, both are taken.
        told["enum"] = list(dict.fromkeys(_value(name, told["enum"]) for name in told["enum"]))
    return told


def _value(name: Any, listed: list[Any]) -> Any:
    return to_camel(name) if isinstance(name, str) and to_camel(name) not in listed else name


#: One attribute in a docstring: its name, and its text up to the next one.
_ATTRIBUTE: Final = re.compile(r"^ +(\w+): (.*(?:\n(?! +\w+: ).+)*)", re.MULTILINE)


def _one_line(text: str) -> str:
    """The text of a docstring, in one line; what stands there as code in the way of Python has one backquote."""
    return " ".join(text.split()).replace("``", "`").replace("`None`", "null")


def _camel(name: str) -> str:
    # Kept as they are for clients of the nearest system.
    return name if name in ("node_id", "chosen_option", "n_options") else to_camel(name)
