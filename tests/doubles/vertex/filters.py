"""Google's list filters: comparisons with AND, OR, NOT and brackets, over whatever a caller can look up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime

from tests.doubles.vertex.refusal import invalid

Lookup = Callable[[str], Iterable[str] | None]
"""Returns the values of a field: none if it is empty, None if there is no such field."""

Test = Callable[[Lookup], bool]

TOKEN = re.compile(
    r"""\s*(?:(?P<op>!=|>=|<=|=~|!~|[=:<>])|(?P<mark>[(),])|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r'|(?P<word>[^\s()=:<>!~",]+(?:\."(?:[^"\\]|\\.)*")?))'
)
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
MATCHERS: dict[str, Callable[[str, str], bool]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "has_substring": lambda value, part: part in value,
    "monitoring.regex.full_match": lambda value, pattern: re.fullmatch(pattern, value) is not None,
}


def parsed(text: str) -> Test:
    """Return the test that a filter is; an empty one is passed by all.

    Raises:
        Refusal: it can't be read.
    """
    # rule list.filter
    tokens = _tokens(text)
    if not tokens:
        return lambda _: True
    reader = _Reader(text, tokens)
    test = reader.either()
    if reader.left():
        raise reader.wrong()
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise invalid("list.filter-form", f"Invalid filter: {text}")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


class _Reader:
    """Reads tokens from left to right."""

    def __init__(self, text: str, tokens: list[tuple[str, str]]) -> None:
        self._text = text
        self._tokens = tokens
        self._at = 0

    def left(self) -> bool:
        """Return whether there is more."""
        return self._at < len(self._tokens)

    def wrong(self) -> Exception:
        """Return the error of a filter that can't be read."""
        return invalid("list.filter-form", f"Invalid filter: {self._text}")

    def _take(self) -> tuple[str, str]:
        if not self.left():
            raise self.wrong()
        self._at += 1
        return self._tokens[self._at - 1]

    def _is(self, *values: str) -> bool:
        return self.left() and self._tokens[self._at][1] in values

    def either(self) -> Test:
        """Read terms with OR between them."""
        tests = [self._all()]
        while self._is("OR"):
            self._take()
            tests.append(self._all())
        return lambda lookup: any(test(lookup) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self.left() and not self._is("OR", ")"):
            if self._is("AND"):
                self._take()
            tests.append(self._one())
        return lambda lookup: all(test(lookup) for test in tests)

    def _one(self) -> Test:
        if self._is("NOT"):
            self._take()
            test = self._one()
            return lambda lookup: not test(lookup)
        if self._is("("):
            self._take()
            test = self.either()
            if self._take()[1] != ")":
                raise self.wrong()
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        kind, field = self._take()
        if kind not in {"word", "text"}:
            raise self.wrong()
        field = field if kind == "word" else _unquoted(field)
        if not self.left() or self._tokens[self._at][0] != "op":
            return lambda lookup: any(field.lower() in value.lower() for value in lookup("*") or ())
        _, sign = self._take()
        kind, value = self._take()
        if kind == "word" and self._is("("):
            return self._function(field, sign, value)
        if kind not in {"word", "text"}:
            raise self.wrong()
        wanted, quoted = _unquoted(value), kind == "text"
        return lambda lookup: _compared(_values(lookup, field), sign, wanted, quoted=quoted)

    def _function(self, field: str, sign: str, name: str) -> Test:
        self._take()
        words = []
        while not self._is(")"):
            kind, value = self._take()
            if kind in {"word", "text"}:
                words.append(_unquoted(value))
        self._take()
        if name != "one_of" and name not in MATCHERS:
            raise self.wrong()
        match = MATCHERS.get(name, str.__eq__)

        def test(lookup: Lookup) -> bool:
            hit = any(match(value, word) for value in _values(lookup, field) for word in words)
            return hit if sign == "=" else not hit

        return test


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith(('"', "'")) else value


def _values(lookup: Lookup, field: str) -> list[str]:
    name = re.sub(r'\."((?:[^"\\]|\\.)*)"$', lambda found: "." + _unquoted(f'"{found[1]}"'), field)
    found = lookup(name)
    if found is None:
        raise invalid("list.filter-field", f"Invalid filter: unknown field {field}.")
    return list(found)


def _compared(values: list[str], sign: str, wanted: str, *, quoted: bool) -> bool:
    match sign:
        case ":" if wanted == "*" and not quoted:
            return bool(values)
        case ":":
            return any(wanted.rstrip("*").lower() in value.lower() for value in values)
        case "=":
            return any(_fits(value, wanted) for value in values)
        case "!=":
            return not any(_fits(value, wanted) for value in values)
        case "=~":
            return any(re.search(wanted, value) for value in values)
        case "!~":
            return not any(re.search(wanted, value) for value in values)
        case _:
            return any(_ordered(value, sign, wanted) for value in values)


def _fits(value: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return value.startswith(wanted[:-1])
    return value == wanted


def _ordered(value: str, sign: str, wanted: str) -> bool:
    left, right = _rank(value), _rank(wanted)
    if type(left) is not type(right):
        left, right = value, wanted
    match sign:
        case ">":
            return left > right  # type: ignore[operator]  # they are of one type
        case ">=":
            return left >= right  # type: ignore[operator]
        case "<":
            return left < right  # type: ignore[operator]
        case _:
            return left <= right  # type: ignore[operator]


def _rank(value: str) -> float | datetime | str:
    """Return what a value is ordered by: severities by weight, numbers and times as such."""
    if value.upper() in SEVERITIES:
        return float(SEVERITIES.index(value.upper()))
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value))
    except ValueError:
        return value
