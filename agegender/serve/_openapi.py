"""The service described in OpenAPI 3.1, with examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from agegender.serve._parameters import LAYERS
from agegender.serve._problems import KINDS, MEDIA_TYPE, Problem

__all__ = ["describe"]

_NUMBER = {"type": "number"}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_BOX = {
    "x": _NUMBER | {"description": "The box's left edge, in pixels of the upright picture."},
    "y": _NUMBER | {"description": "Its upper edge."},
    "width": dict(_NUMBER),
    "height": dict(_NUMBER),
    "score": _NUMBER | {"description": "How sure the detector is, 0 … 1."},
    "rotation": {
        "type": "integer",
        "enum": [0, 90, 180, 270],
        "description": "By how many degrees, clockwise, the picture was turned to find the face.",
    },
    "sharpness": _MAYBE_NUMBER | {"description": "Variance of the Laplacian of the aligned face."},
    "yaw": _NUMBER | {"description": "How far the head is turned to the side, in degrees."},
    "roll": _NUMBER | {"description": "How far the head leans in the picture, in degrees."},
    "quality": _NUMBER | {"description": "How much the face shows, 0 … 1."},
    "reliable": {"type": "boolean", "description": "Whether the quality is at least 0.5."},
    "doubts": {
        "type": "string",
        "description": "Why the face is not reliable: small, blurred, turned away, cut off.",
    },
}
_FACE = _BOX | {
    "age": _MAYBE_NUMBER | {"description": "Years; null where the interval is wider than max_age_range."},
    "age_low": _MAYBE_NUMBER | {"description": "Lower end of the interval, years."},
    "age_high": dict(_MAYBE_NUMBER),
    "gender": {"description": "A label of /v1/model's genders; null where less sure than min_gender_proba."},
    "gender_proba": _MAYBE_NUMBER | {"description": "Probability of the likelier gender."},
    "age_sure": {"type": "boolean", "description": "With max_age_range: whether age is given."},
    "gender_sure": {"type": "boolean", "description": "With min_gender_proba: whether gender is given."},
    "age_proba": {
        "type": "array",
        "items": _NUMBER,
        "description": "With distribution=true: probabilities of the ages 0, 1, 2, …",
    },
}
_FOUND: dict[str, Any] = {"x": 93.4, "y": 134.5, "width": 172.0, "height": 234.9, "score": 0.94}
_SHOWN = {
    "rotation": 0, "sharpness": 412.0, "yaw": -4.2, "roll": 1.3, "quality": 0.95, "reliable": True, "doubts": "",
}  # fmt: skip
_SEEN = _FOUND | _SHOWN
_READ = {"age": 31.2, "age_low": 22.4, "age_high": 41.6, "gender": 1, "gender_proba": 0.94}
_SEEN_FACE = _FOUND | _READ | _SHOWN

_LIVE = {
    "summary": "A camera over a WebSocket",
    "description": (
        "First message, text: a JSON object with the parameters of /v1/predict (and key, where there are keys). "
        "Then frames as binary messages, each an encoded picture. The newest frame is answered with text: "
        '{"frame": 12, "dropped": 0, "seconds": 0.02, "faces": [...]}; a face has a number by which it is followed. '
        "Of the frames that arrive while another is read, only the newest is kept."
    ),
    "responses": {"101": {"description": "A WebSocket"}},
}


def describe(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description as the members of a JSON object.

    Parameters
    ----------
    about : mapping
        The answer of ``/v1/model``.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agegender",
            "version": metadata.version("agegender"),
            "description": about["must_not_be_used_for"],
        },
        "paths": _paths(about),
        "components": {
            "schemas": {
                "Face": _object(_FACE),
                "EmbeddedFace": _object(_BOX | {"embedding": {"type": "array", "items": _NUMBER}}),
                "Problem": _object(
                    {
                        "type": {"type": "string", "enum": [f"/v1/problems/{name}" for name in KINDS]},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    }
                ),
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties)}


def _paths(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "/v1/predict": {"post": _predict(about)},
        "/v1/embed": {"post": _embed(about)},
        "/v1/live": {"get": _LIVE},
        "/v1/model": {"get": _plain("What the model was trained on, its parts, versions and terms", about)},
        "/v1/problems/{name}": {"get": _problems()},
        "/healthz": {"get": _plain("Whether the service answers", {"status": "ok"}) | {"security": []}},
        "/metrics": {
            "get": {
                "summary": "Counters, in Prometheus' text format",
                "responses": {"200": {"description": "Counters", "content": {"text/plain": {}}}},
            }
        },
    }


def _predict(about: Mapping[str, Any]) -> dict[str, Any]:
    coverage = {"type": "number", "minimum": 0.01, "maximum": 0.99}
    years, half = {"type": "number", "minimum": 0}, {"type": "number", "minimum": 0.5, "maximum": 1}
    of = _parameter
    example = {"picture": 0, "name": "holiday.jpg", "faces": [_SEEN_FACE]}
    return {
        "summary": "Age and gender of every face of every picture",
        "parameters": [
            _faces(about),
            of("coverage", coverage, 0.9, "Fraction of faces whose true age is to lie in the interval."),
            of("max_age_range", years, None, "Widest interval, in years, with which an age is given at all."),
            of("min_gender_proba", half, None, "Lowest probability with which a gender is given at all."),
            of("distribution", {"type": "boolean"}, False, "Whether each face has its age_proba."),
            _on_error(),
        ],
        "requestBody": _body(about),
        "responses": _answer("Face", {"pictures": [example]}),
    }


def _embed(about: Mapping[str, Any]) -> dict[str, Any]:
    layer = {"type": "string", "enum": list(LAYERS)}
    example = {"picture": 0, "name": "holiday.jpg", "faces": [_SEEN | {"embedding": [0.12, -0.4]}]}
    return {
        "summary": "The network's activations of every face of every picture",
        "parameters": [
            _faces(about),
            _parameter("layer", layer, "embedding", "Which activations."),
            _on_error(),
        ],
        "requestBody": _body(about),
        "responses": _answer("EmbeddedFace", {"layer": "embedding", "pictures": [example]}),
    }


def _faces(about: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "string", "enum": list(about["faces"])}
    return _parameter("faces", schema, "auto", "What finds faces; none: each picture is a face crop.")


def _on_error() -> dict[str, Any]:
    return _parameter(
        "on_error",
        {"type": "string", "enum": ["raise", "nan"]},
        "raise",
        "raise: a picture that cannot be used fails the request; nan: it has an error of its own in the answer.",
    )


def _problems() -> dict[str, Any]:
    example = {"type": "/v1/problems/busy", "title": KINDS["busy"].title, "status": KINDS["busy"].status}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(KINDS)}}
    return _plain("A kind of problem", example) | {"parameters": [name]}


def _parameter(name: str, schema: Mapping[str, Any], default: Any, description: str) -> dict[str, Any]:
    schema = dict(schema) if default is None else {**schema, "default": default}
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _body(about: Mapping[str, Any]) -> dict[str, Any]:
    most = about["limits"]["max_pictures"]
    listed = {"type": "array", "maxItems": most, "minItems": 1}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"pictures": listed | {"items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {
                "schema": listed | {"items": {"type": "string", "contentEncoding": "base64"}},
                "example": ["/9j/4AAQSkZJRgABAQ…"],
            },
        },
    }


def _answer(face: str, example: Mapping[str, Any]) -> dict[str, Any]:
    picture = _object(
        {
            "picture": {"type": "integer", "description": "The picture's place in the request."},
            "name": {"type": ["string", "null"]},
            "faces": {"type": "array", "items": {"$ref": f"#/components/schemas/{face}"}},
            "error": {"type": "string", "description": "With on_error=nan: why the picture cannot be used."},
        }
    )
    schema = _object({"pictures": {"type": "array", "items": picture}})
    found = {
        "description": "A list of faces per picture, the largest face first",
        "content": {"application/json": {"schema": schema, "example": dict(example)}},
    }
    names = [name for name in KINDS if name not in ("not-found", "method", "internal")]
    return {"200": found} | _refusals(names)


def _refusals(names: Iterable[str]) -> dict[str, Any]:
    """Return one response per status, with one example per kind of problem."""
    responses: dict[str, Any] = {}
    for name in names:
        kind = KINDS[name]
        response = responses.setdefault(
            str(kind.status),
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        example = {"value": Problem(name, f"{kind.title}, and what to do about it.").members()}
        response["content"][MEDIA_TYPE]["examples"][name] = example
    return responses


def _plain(summary: str, example: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": dict(example)}}
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}}}
