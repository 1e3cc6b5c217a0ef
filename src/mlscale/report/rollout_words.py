"""A rollout → the words and rows that its text, its Markdown and its page have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor, log10

from mlscale.deployment import WHOLE
from mlscale.plan.diff import share_text
from mlscale.quantities import duration_text, percent_text
from mlscale.state.rollouts import Judged, Moment, Phase, Rollout

MARKS = {"pass": "✓", "inconclusive": "…", "no_data": "?", "error": "!", "fail": "✗"}
NOTHING = "-"

_HAPPENED = {"pause": "paused", "resume": "resumed", "promote_full": "promote --full"}
_HOURS = "%H:%M"
_SECONDS = "%H:%M:%S"
_DAY = "%Y-%m-%d"


@dataclass(frozen=True, slots=True)
class Row:
    """What one metric showed: `cells` as `HEAD` names them, and what they don't say, if there is such."""

    outcome: str
    cells: tuple[str, ...]
    note: str

    @property
    def mark(self) -> str:
        """Its outcome as one character."""
        return MARKS.get(self.outcome, " ")


HEAD = ("metric", "verdict", "candidate", "baseline", "worse by", "margin", "max")
NEEDED = 3
"""How many of them every metric has."""


def row(judged: Judged) -> Row:
    """Return what a metric showed."""
    is_compared = judged.margin is not None
    is_over_max = judged.outcome == "fail" and judged.bound == judged.max
    sign = "≥" if judged.outcome == "fail" else "≤"
    is_bounded = is_compared and judged.bound is not None and judged.bound < 1 and not is_over_max
    cells = (
        judged.metric,
        worded(judged.outcome),
        NOTHING if judged.candidate is None else f"{rate_text(judged.candidate)} of {judged.n:,}",
        rate_text(judged.baseline) if is_compared else NOTHING,
        f"{sign} {rate_text(judged.bound)}" if is_bounded else NOTHING,
        rate_text(judged.margin),
        rate_text(judged.max),
    )
    return Row(judged.outcome, cells, _note(judged))


def used(rows: Sequence[Row]) -> Sequence[int]:
    """Return the numbers of the columns that a metric has something in; the first three always."""
    return [
        number for number in range(len(HEAD)) if number < NEEDED or any(each.cells[number] != NOTHING for each in rows)
    ]


def _note(judged: Judged) -> str:
    if judged.outcome == "pass":
        return ""
    if judged.outcome == "inconclusive" and judged.missing is not None:
        return f"about {judged.missing:,} more requests are needed"
    return judged.why


def rate_text(share: float | None) -> str:
    """Return a share as a percentage with three figures, a dash where there is none."""
    if share is None:
        return NOTHING
    percent = share * 100
    digits = 2 - floor(log10(abs(percent))) if percent else 0
    return percent_text(round(percent, max(digits, 0)))


def worded(word: str) -> str:
    """Return a word of the state as people write it."""
    return word.replace("_", " ")


def state(rollout: Rollout) -> str:
    """Return its strategy and how far it is."""
    return f"{rollout.strategy}, {worded(rollout.phase.value)}"


def period(rollout: Rollout) -> str:
    """Return when it was, and how long it took if it has ended."""
    began, ended = (None if at is None else at.astimezone(UTC) for at in (rollout.began_at, rollout.ended_at))
    if began is None or ended is None:
        return f"since {day_and_time(rollout.began_at)}"
    until = ended.strftime(_HOURS) if ended.date() == began.date() else ended.strftime(f"{_DAY} {_HOURS}")
    took = timedelta(seconds=round((ended - began).total_seconds()))
    return f"{began.strftime(f'{_DAY} {_HOURS}')} to {until} UTC, {duration_text(took)}"


def day_and_time(at: datetime) -> str:
    """Return a time to the minute, in UTC."""
    return at.astimezone(UTC).strftime(f"{_DAY} {_HOURS} UTC")


def steps(rollout: Rollout) -> Sequence[str]:
    """Return the shares that it goes, the last being all; ✓ has been, ▸ is, ✗ is where it ended."""
    is_promoted = rollout.phase is Phase.PROMOTED
    ended_here = "▸" if rollout.is_live else "✗"
    found = []
    for number, share in enumerate((*rollout.shares, WHOLE)):
        is_here = number == rollout.step and rollout.step_at is not None
        mark = "✓" if is_promoted or number < rollout.step else ended_here if is_here else ""
        found.append(f"{share_text(share)} {mark}".rstrip())
    return found


def happened(moment: Moment) -> str:
    """Return what happened, in a word or two."""
    return _HAPPENED.get(moment.what, worded(moment.what))


def time_of(moment: Moment, rollout: Rollout) -> str:
    """Return when it happened, in UTC; with the day where the rollout went on over several."""
    days = {each.at.astimezone(UTC).date() for each in rollout.history}
    return moment.at.astimezone(UTC).strftime(_SECONDS if len(days) == 1 else f"%m-%d {_SECONDS}")


def following(rollout: Rollout) -> str:
    """Return what comes next, and by which command; empty where nothing does."""
    match rollout.phase:
        case Phase.PROGRESSING:
            after = (*rollout.shares, WHOLE)[min(rollout.step + 1, len(rollout.shares))]
            share = "all traffic" if after == WHOLE else share_text(after)
            return (
                f"{share} when its time is over and every metric passes, while somebody drives it: "
                "mlscale rollout --auto"
            )
        case Phase.PAUSED:
            return "mlscale rollout resume, or mlscale rollout abort"
        case Phase.HOLDING:
            return "mlscale rollout promote, or mlscale rollout abort; mlscale rollout --auto goes the steps"
        case Phase.PROMOTING:
            return "the old revision goes; if nobody does it any more: mlscale rollout --auto"
        case Phase.ABORTING:
            return "the candidate goes; if nobody does it any more: mlscale rollout abort"
        case Phase.PROMOTED:
            return f"mlscale rollback would go back to revision {rollout.stable.id}"
        case Phase.ROLLED_BACK:
            return "mlscale rollout retry tries it once more"
        case Phase.REPLACED:
            return ""
