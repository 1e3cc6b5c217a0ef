"""What a service answers instead of a result."""

from __future__ import annotations


class Refusal(Exception):
    """An error as the service words it; `rule` is the row of the table of rules that it follows.

    Where one `field` is wrong, `about` says what of it.
    """

    def __init__(self, rule: str, code: str, message: str, *, field: str = "", about: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.code = code
        self.message = message
        self.field = field
        self.about = about


def invalid(rule: str, message: str) -> Refusal:
    """Return the error that most refusals are."""
    return Refusal(rule, "INVALID_ARGUMENT", message)


def precondition(rule: str, message: str) -> Refusal:
    """Return the error of what can't be done as things are."""
    return Refusal(rule, "FAILED_PRECONDITION", message)


def missing(rule: str, message: str) -> Refusal:
    """Return the error of what is not there."""
    return Refusal(rule, "NOT_FOUND", message)


def wrong_field(rule: str, field: str, message: str) -> Refusal:
    """Return the error of a wrong field, as Vertex AI lists them."""
    # rule error.fields
    words = f"List of found errors:\t1.Field: {field}; Message: {message}\t"
    return Refusal(rule, "INVALID_ARGUMENT", words, field=field, about=message)
