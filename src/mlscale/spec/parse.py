"""The user's text → a checked Spec, or all of its problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mlscale.errors import Problem, SpecInvalid
from mlscale.spec import section
from mlscale.spec.fields import LONGEST_NAME
from mlscale.spec.fit import misfits
from mlscale.spec.model import Spec
from mlscale.spec.nodes import Path, Place, Tree, shown, tree_of, typed, unprintable, value_of

_VARIABLE = r"\$(?:\$(?P<escaped>\{)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|(?P<broken>\{))"
_PART = r"([^.\[\]]+)|\[([0-9]{1,4})\]"
_ENVIRONMENT = r"[a-z0-9](-?[a-z0-9])*"
_LONGEST_GUESSED = 40
_CLOSE = 0.7


def parse(
    text: str | bytes,
    file: str,
    *,
    variables: Mapping[str, str],
    env: str | None = None,
    overrides: Sequence[str] = (),
) -> Spec:
    """Return the spec that `text` says.

    Args:
        text: YAML, UTF-8 if bytes.
        file: what to call it in problems.
        variables: what `${VAR}` is filled from.
        env: the overlay under `environments` to lay over the rest; the name gets `-env`.
        overrides: `path=value` each, the value read as YAML, laid over everything.

    Raises:
        SpecInvalid: with every problem that was found, in the order of the file.
    """
    tree = tree_of(text, file)
    if not isinstance(tree.value, dict):
        raise SpecInvalid(tuple(tree.problems))
    draft = _Draft(file, tree, variables)
    draft.lay_over(env)
    for override in overrides:
        draft.override(override)
    return draft.checked()


class _Draft:
    """A document on its way to a spec: values, where each came from, and problems so far."""

    def __init__(self, file: str, tree: Tree, variables: Mapping[str, str]) -> None:
        self._file = file
        self._tree = tree
        self._variables = variables
        self._problems = tree.problems
        self._value: Any = tree.value
        self._moved: dict[Path, Path] = {}
        self._overridden: dict[Path, str] = {}

    def lay_over(self, env: str | None) -> None:
        """Take `environments` out, and lay the one that was asked for over the rest.

        The others are only looked through for unknown keys: their variables need not be set here.
        """
        overlays = self._checked_overlays(self._value.pop("environments", None))
        for name, overlay in overlays.items():
            if name != env:
                self._find_unknown(overlay, ("environments", name), Spec)
        if env is None:
            return
        if env not in overlays:
            known = ", ".join(sorted(overlays)) or "none"
            self._problem(("environments",), f"the environment {shown(env)} is not in the spec", f"there are: {known}")
            return
        self._merge(self._value, overlays[env], (), ("environments", env))
        if isinstance(self._value.get("name"), str) and "name" not in overlays[env]:
            self._value["name"] += f"-{env}"

    def _checked_overlays(self, overlays: Any) -> dict[str, dict[str, Any]]:
        """Return the overlays that are usable; a problem for each of the others."""
        if overlays is None:
            return {}
        if not isinstance(overlays, dict):
            self._problem(
                ("environments",), "environments is not a mapping", f"it is {_shown(overlays)}", "prod: {...}"
            )
            return {}
        usable = {}
        for name, overlay in overlays.items():
            path = ("environments", name)
            if not re.fullmatch(_ENVIRONMENT, name):
                why = "lower-case letters and digits, single dashes between them"
                self._problem(path, f"the environment {shown(name)} has no fitting name", why, of_key=True)
            elif isinstance(overlay, dict):
                usable[name] = overlay
            elif overlay is None:
                usable[name] = {}
            else:
                self._problem(path, f"environments.{shown(name)} is not a mapping", f"it is {_shown(overlay)}")
        return usable

    def _find_unknown(self, value: Any, path: Path, section: type[BaseModel]) -> None:
        if isinstance(value, list):
            for number, each in enumerate(value):
                self._find_unknown(each, (*path, number), section)
        elif isinstance(value, dict):
            for key, each in value.items():
                field = section.model_fields.get(key)
                inner = next(_sections(field.annotation), None) if field else None
                if field is None:
                    self._unknown((*path, key), list(section.model_fields))
                elif inner:
                    self._find_unknown(each, (*path, key), inner)

    def _merge(self, below: dict[str, Any], above: dict[str, Any], path: Path, origin: Path) -> None:
        for key, value in above.items():
            here, there = (*path, key), (*origin, key)
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                self._merge(below[key], value, here, there)
            else:
                below[key] = value
                self._moved[here] = there

    def override(self, override: str) -> None:
        """Put the value of one `path=value` in its place."""
        dotted, found, text = override.partition("=")
        origin = f"--set {shown(dotted)}"
        keys = _keys_of(dotted)
        if not found or not keys:
            self._refuse_override(
                origin, "this is not path=value", f"it is {_shown(override)}", "--set model.source=./m"
            )
            return
        if character := unprintable(dotted):
            self._refuse_override(origin, "a character is not allowed", character, "remove it")
            return
        if keys[0] == "environments":
            self._refuse_override(
                origin, "an overlay can't be set", "", "choose it with --env, and set the path itself"
            )
            return
        tree = value_of(text, origin)
        if tree.problems:
            self._refuse_override(origin, "the value is not YAML", tree.problems[0].why or tree.problems[0].what)
            return
        place: Any = self._value
        for number, key in enumerate(keys[:-1]):
            inner: Any = [] if isinstance(keys[number + 1], int) else {}
            place = _put(place, key, inner, keep=True)
        if place is _NOWHERE or _put(place, keys[-1], tree.value, keep=False) is _NOWHERE:
            why = f"{_dotted(keys[:-1]) or 'the spec'} has no {_shown(keys[-1])}"
            self._refuse_override(origin, "there is no such path", why)
            return
        self._overridden[keys] = origin

    def _refuse_override(self, origin: str, what: str, why: str, hint: str = "") -> None:
        self._problems.append(Problem(origin, 0, 0, what, why, hint))

    def checked(self) -> Spec:
        """Return the spec, its variables filled, or raise every problem in the order of the file."""
        self._value = self._filled(self._value, ())
        spec = None
        try:
            spec = Spec.model_validate(_tupled(self._value))
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=True):
                self._add(each)
        for path, why in misfits(spec) if spec else ():
            self._misfit(path, why)
        if spec is None or self._problems:
            unique = dict.fromkeys(sorted(self._problems, key=lambda each: (not each.line, each.line, each.column)))
            raise SpecInvalid(tuple(unique))
        return spec

    def _filled(self, value: Any, path: Path) -> Any:
        """Return `value` with each `${VAR}` of the file filled; what was laid over needs none of those below it."""
        if path in self._overridden:
            return value
        if isinstance(value, dict):
            return {key: self._filled(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, (*path, number)) for number, each in enumerate(value)]
        if not isinstance(value, str) or "$" not in value:
            return value
        whole = re.fullmatch(_VARIABLE, value)
        text = re.sub(_VARIABLE, lambda found: self._text_of(found, path), value)
        return typed(text) if whole and whole["name"] and self._source(path) in self._tree.plain else text

    def _text_of(self, found: re.Match[str], path: Path) -> str:
        if found["escaped"]:
            return "${"
        if found["broken"]:
            hint = "write ${NAME} or ${NAME:-default}, $${ for the characters themselves"
            self._problem(path, "a variable is not written right", "", hint)
            self._tree.spoiled.add(self._source(path))
            return ""
        name, default = found["name"], found["default"]
        text = self._variables.get(name)
        if default is not None:
            return text or str(default)
        if text is None:
            self._problem(path, f"the variable {name} is not set", "", f"set it, or write ${{{name}:-default}}")
            self._tree.spoiled.add(self._source(path))
        elif character := unprintable(text):
            self._problem(path, f"the variable {name} has a character that is not allowed", character, "remove it")
            self._tree.spoiled.add(self._source(path))
        return text or ""

    def _add(self, error: Any) -> None:
        of_key = error["loc"][-1:] == ("[key]",)
        path = self._path_of(error["loc"][:-1] if of_key else error["loc"])
        if self._is_spoiled(path):
            return
        match error["type"]:
            case "extra_forbidden":
                self._unknown(path, _keys_at(path[:-1]))
            case "missing" if self._is_written(path):
                self._problem(path, f"{_dotted(path)} is not valid", "it is empty, a text is needed")
            case "missing":
                self._problem(path[:-1], f"{_dotted(path)} is missing", "", _described(path), of_key=True)
            case section.PLACED:
                for below, why in error["ctx"]["problems"]:
                    self._misfit((*path, *below), why)
            case _:
                what = f"{_dotted(path)} is not valid" if path else "the spec is not valid"
                self._problem(path, what, *self._words(error, path), of_key=of_key)

    def _is_spoiled(self, path: Path) -> bool:
        return any(self._source(path[:length]) in self._tree.spoiled for length in range(len(path) + 1))

    def _misfit(self, path: Path, why: str) -> None:
        """Add a problem at `path`: that it is missing, if it does not stand there and could."""
        written, holder = self._written(path)
        if self._is_spoiled(written):
            return
        if written != path and isinstance(holder, dict):
            self._problem(written, f"{_dotted(path)} is missing", why, of_key=True)
        else:
            self._problem(written, f"{_dotted(written)} is not valid", why)

    def _path_of(self, loc: Path) -> Path:
        """Return the part of pydantic's location that stands in the file (it adds names of functions and unions)."""
        path, holder = self._written(loc)
        return loc if len(path) == len(loc) - 1 and isinstance(holder, dict) else path

    def _written(self, path: Path) -> tuple[Path, Any]:
        """Return as much of `path` as stands in the spec, and the value there."""
        value = self._value
        for length, part in enumerate(path):
            inside = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if not inside:
                return path[:length], value
            value = value[part]
        return path, value

    def _is_written(self, path: Path) -> bool:
        value = self._value
        for part in path[:-1]:
            value = value[part]
        return path[-1] in value

    def _unknown(self, path: Path, known: list[str]) -> None:
        key = str(path[-1])
        known = [each for each in known if each != key]
        close = _close_to(key, known) if len(key) <= _LONGEST_GUESSED else ""
        hint = f"did you mean {close}?" if close else f"known here: {', '.join(known)}"
        self._problem(path, f"{_dotted(path)} is unknown", "", hint if known else "remove it", of_key=True)

    def _problem(self, path: Path, what: str, why: str = "", hint: str = "", *, of_key: bool = False) -> None:
        origin = self._origin(path)
        line, column = self._place(path, of_key=of_key) if origin == self._file else (0, 0)
        self._problems.append(Problem(origin, line, column, what, why, hint))

    def _origin(self, path: Path) -> str:
        """Return where the value at `path` comes from: the file, or an override at it, above it, or all below it."""
        above = [origin for length in range(len(path) + 1) if (origin := self._overridden.get(path[:length]))]
        if above:
            return above[-1]
        if self._source(path) in self._tree.values:
            return self._file
        below = (origin for keys, origin in self._overridden.items() if path and keys[: len(path)] == path)
        return next(below, self._file)

    def _place(self, path: Path, *, of_key: bool) -> Place:
        places = (self._tree.keys, self._tree.values) if of_key else (self._tree.values, self._tree.keys)
        for length in range(len(path), -1, -1):
            there = self._source(path[:length])
            # Of what holds the place that is missing, the key says more than its first line does.
            for table in places if length == len(path) else (self._tree.keys, self._tree.values):
                if there in table:
                    return table[there]
        return 1, 1

    def _source(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            if path[:length] in self._moved:
                return (*self._moved[path[:length]], *path[length:])
        return path

    def _words(self, error: Any, path: Path) -> tuple[str, str]:
        """Return why a value is not valid and what to do, in our words rather than the library's."""
        value, context = error.get("input"), error.get("ctx", {})
        written = "" if self._origin(path) != self._file else self._tree.plain.get(self._source(path), "")
        reads = f"YAML reads {shown(written)} as {_shown(value)}" if written and _differs(written, value) else ""
        match error["type"]:
            case "value_error":
                return str(context["error"]), ""
            case "literal_error" | "enum":
                return _choice_words(value, str(context["expected"]), reads)
            case "string_type" if isinstance(value, bool | int | float):
                return (
                    reads or f"{_shown(value)} is not a text",
                    f'write it in quotes: "{shown(written or str(value))}"',
                )
            case "string_type" if value is None:
                return "it is empty, a text is needed", ""
            case "string_too_short":
                return "it is empty, a text is needed", ""
            case "string_pattern_mismatch" | "string_too_long" if path == ("name",):
                if len(value) > LONGEST_NAME:
                    return f"{value[: LONGEST_NAME * 2]!r} has {len(value)} characters, {LONGEST_NAME} at most", ""
                return f"{_shown(value)}: lower-case letters and digits, single dashes between them, a letter first", ""
            case "string_too_long":
                return f"it has {len(value):,} characters, {context['max_length']:,} at most", ""
            case "string_pattern_mismatch" if path[-1:] == ("path",):
                return f"{_shown(value)} is no route", "write it like /ping"
            case "greater_than_equal" | "less_than_equal":
                bound = f"{context['ge']} at least" if "ge" in context else f"{context['le']} at most"
                return f"it is {_shown(value)}, {bound}", ""
            case "too_long":
                return f"it has {context['actual_length']} entries, {context['max_length']} at most", ""
            case "tuple_type":
                return f"it is {_shown(value)}, a list is needed", "begin each entry with a dash"
            case kind:
                return f"{reads or f'it is {_shown(value)}'}, {_NEEDED.get(kind, error['msg'])}", ""


_NEEDED = {
    "model_type": "a mapping is needed",
    "dict_type": "a mapping is needed",
    "string_type": "a text is needed",
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "bool_type": "true or false is needed",
    "finite_number": "a number is needed",
}


def _choice_words(value: object, expected: str, reads: str) -> tuple[str, str]:
    options = expected.replace("'", "")
    if not isinstance(value, str):
        return f"it is {_shown(value)}, not one of: {options}", reads
    close = _close_to(value[:_LONGEST_GUESSED], re.split(r", | or ", options))
    return f"{_shown(value)} is not one of: {options}", f"did you mean {close}?" if close else ""


def _close_to(word: str, known: Sequence[str]) -> str:
    """Return the word of `known` that was probably meant, an empty text if none is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=_CLOSE)), "")


def _differs(written: str, value: object) -> bool:
    return str(value).lower() != written.lower()


_NOWHERE: Any = object()


def _keys_of(dotted: str) -> Path:
    """Return `a.b[0].c` as a path, () if it is none."""
    path: list[str | int] = []
    for part in dotted.split("."):
        found = list(re.finditer(_PART, part))
        if not part or "".join(each[0] for each in found) != part or found[0][1] is None:
            return ()
        path += [each[1] if each[2] is None else int(each[2]) for each in found]
    return tuple(path)


def _put(place: Any, key: str | int, value: Any, *, keep: bool) -> Any:
    """Put `value` at `key` of a mapping or list, unless `keep` and there is a container; return what is there then.

    A list grows by one at its end. `_NOWHERE` if `place` has no such key.
    """
    if isinstance(place, dict) and isinstance(key, str):
        if not (keep and isinstance(place.get(key), dict | list)):
            if keep and place.get(key) is not None:
                return _NOWHERE
            place[key] = value
        return place[key]
    if isinstance(place, list) and isinstance(key, int) and key <= len(place):
        if key == len(place):
            place.append(value)
        elif not keep:
            place[key] = value
        return place[key]
    return _NOWHERE


def _shown(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return shown(repr(value))
        case _:
            return shown(str(value))


def _described(path: Path) -> str:
    section = _section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    return field.description or "" if field else ""


def _keys_at(path: Path) -> list[str]:
    section = _section_at(path)
    keys = list(section.model_fields) if section else []
    return [*keys, "environments"] if section is Spec else keys


def _section_at(path: Path) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Spec
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if section else None
        section = next(_sections(field.annotation), None) if field else None
    return section


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)


def _tupled(value: Any) -> Any:
    """Return `value` with lists as tuples: the model is strict, and its sequences are tuples."""
    if isinstance(value, dict):
        return {key: _tupled(each) for key, each in value.items()}
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text
