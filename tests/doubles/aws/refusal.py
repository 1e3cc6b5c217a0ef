"""What a service answers instead of a result."""

from __future__ import annotations


class Refusal(Exception):
    """An error as the service words it; `rule` is the row of the table of rules that it follows."""

    def __init__(self, rule: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.rule = rule
        self.code = code
        self.message = message
        self.status = status


def invalid(rule: str, message: str) -> Refusal:
    """Return the error that most refusals are."""
    return Refusal(rule, "ValidationException", message)
