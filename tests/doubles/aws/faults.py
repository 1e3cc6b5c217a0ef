"""Faults that a test wants: which call, the how-manieth, and what goes wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.doubles.aws.wire import Call

KINDS = frozenset({
    "throttle", "500", "503", "hang", "hang_after_commit", "drop", "drop_after_commit", "expired", "access_denied",
    "custom",
})  # fmt: skip
AFTER_COMMIT = frozenset({"drop_after_commit", "hang_after_commit"})
DROPPED = frozenset({"drop", "drop_after_commit", "hang", "hang_after_commit"})
HANG_S = 60.0

Error = tuple[str, str, int]


@dataclass
class Fault:
    """A rule: matching calls are counted from 1; `times` of them from the `nth` on go wrong."""

    operation: str
    kind: str
    nth: int = 1
    times: int = 1
    code: str = "InternalFailure"
    message: str = "as scripted"
    status: int = 400
    seconds: float = HANG_S
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind} is not one of {', '.join(sorted(KINDS))}")
        re.compile(self.operation)

    def hits(self, call: Call) -> bool:
        """Count the call if the rule is about it; whether it goes wrong."""
        if re.search(self.operation, call.name) is None:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Faults:
    """All rules; the first that hits decides, the others count."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def of(self, call: Call) -> Fault | None:
        """Return what goes wrong with this call."""
        hits = [rule for rule in self.rules if rule.hits(call)]
        return hits[0] if hits else None


def worded(fault: Fault, call: Call) -> Error:
    """Return code, message and status of a fault, as the call's service words it."""
    xml = call.protocol in {"query", "rest-xml"}
    match fault.kind:
        case "throttle":
            # rule fault.throttle
            if call.service == "s3":
                return "SlowDown", "Please reduce your request rate.", 503
            return ("Throttling" if call.protocol == "query" else "ThrottlingException"), "Rate exceeded", 400
        case "500":
            return "InternalFailure" if not xml else "InternalError", "We encountered an internal error.", 500
        case "503":
            return "ServiceUnavailable", "The service is unavailable. Please try again.", 503
        case "expired":
            # rule fault.expired
            if xml:
                status = 400 if call.service == "s3" else 403
                return "ExpiredToken", "The security token included in the request is expired", status
            return "ExpiredTokenException", "The security token included in the request is expired", 400
        case "access_denied":
            # rule fault.access-denied
            who = f"arn:aws:iam::{call.account}:user/somebody"
            words = f"User: {who} is not authorized to perform: {call.service}:{call.operation}"
            return ("AccessDenied" if xml else "AccessDeniedException"), words, (403 if xml else 400)
        case _:
            return fault.code, fault.message, fault.status
