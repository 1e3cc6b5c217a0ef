"""A request against the service model that botocore ships: what is required, how long, which pattern, which words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session

from tests.doubles.aws.refusal import invalid
from tests.doubles.aws.world import Json

FOR_PYTHON = {
    r"\p{L}": r"\w",
    r"\p{M}": "",
    r"\p{Z}": r"\s",
    r"\p{Zs}": r"\s",
    r"\p{N}": r"\d",
    r"\p{P}": r"!-/:-@\[-`{-~",
    r"\p{S}": r"$+<->^`|~",
    r"\p{Alnum}": r"a-zA-Z0-9",
    r"\p{Print}": r"[ -~]",
    r"\uD800\uDC00-\uDBFF\uDFFF": "\U00010000-\U0010ffff",
    r"[\w-_]": r"[\w_-]",
    "${1,128}": "",
    "${1,256}": "",
}
"""What the models' patterns say and Python's can't, and the nearest to it."""


@functools.cache
def service_model(service: str) -> Any:
    """Return botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


def check(service: str, operation: str, params: Json) -> None:
    """Return if the request fits the model.

    Raises:
        Refusal: it does not, in the words that all of Amazon's JSON services use.
    """
    shape = service_model(service).operation_model(operation).input_shape
    problems = list(_problems(shape, params, "")) if shape is not None else []
    if problems:
        errors = "error" if len(problems) == 1 else "errors"
        raise invalid("request.model", f"{len(problems)} validation {errors} detected: {'; '.join(problems)}")


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    match shape.type_name:
        case "structure":
            for name in shape.required_members:
                if value.get(name) is None:
                    yield _broken(None, _below(path, name), "Member must not be null")
            for name, member in shape.members.items():
                if value.get(name) is not None:
                    yield from _problems(member, value[name], _below(path, name))
        case "list":
            yield from _length(shape, value, path)
            for number, item in enumerate(value, start=1):
                yield from _problems(shape.member, item, f"{path}.{number}.member")
        case "map":
            yield from _length(shape, value, path)
            for name, item in value.items():
                yield from _problems(shape.value, item, f"{path}.{name}")
        case "string":
            yield from _length(shape, value, path)
            yield from _words(shape, value, path)
        case "integer" | "long" | "float" | "double":
            yield from _range(shape, value, path)


def _below(path: str, name: str) -> str:
    here = name[0].lower() + name[1:]
    return f"{path}.{here}" if path else here


def _broken(value: object, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _length(shape: Any, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _broken(value, path, f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _broken(value, path, f"Member must have length less than or equal to {most}")


def _range(shape: Any, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _broken(value, path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _broken(value, path, f"Member must have value less than or equal to {most}")


def _words(shape: Any, value: str, path: str) -> Iterator[str]:
    words = shape.metadata.get("enum")
    if words and value not in words:
        yield _broken(value, path, f"Member must satisfy enum value set: [{', '.join(words)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and not _pattern(pattern).fullmatch(value):
        yield _broken(value, path, f"Member must satisfy regular expression pattern: {pattern}")


@functools.cache
def _pattern(pattern: str) -> re.Pattern[str]:
    """Return the pattern for Python."""
    for theirs, ours in FOR_PYTHON.items():
        pattern = pattern.replace(theirs, ours)
    return re.compile(pattern, re.DOTALL)
