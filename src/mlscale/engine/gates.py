"""A rollout's hook points: who is asked there before it goes on, and who is told of what has happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from mlscale.deployment import WHOLE
from mlscale.engine import outside
from mlscale.engine.outside import Answered, Outranked, Unanswered, never
from mlscale.engine.session import Session
from mlscale.errors import ExtraMissing, UsageError
from mlscale.plan.diff import share_text
from mlscale.quantities import percent_text
from mlscale.spec.fields import is_web_address
from mlscale.spec.rollout import Gate
from mlscale.state.rollouts import Moment, Rollout

NOT_YET = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""

NOT_YET_STATUS = frozenset({409, 425, 429, 503})
"""Conflict, too early, too many requests, unavailable: what may pass by itself (RFC 9110, 8470 and 6585)."""

NOTIFY_TIMEOUT_S = 10.0
LONGEST_SUBJECT = 99
"""SNS takes a subject of less than 100 characters (Publish, API reference)."""

_SHOWN = 60
_ENV = "env:"
_OK = range(200, 300)
_BASIS_POINTS = 100


class Hook(StrEnum):
    """Where somebody is asked or told; the words are the keys of `rollout.gates`."""

    BEFORE = "before"
    BEFORE_STEP = "before_step"
    DURING = "during"
    AFTER_STEP = "after_step"
    BEFORE_PROMOTION = "before_promotion"
    AFTER_PROMOTION = "after_promotion"
    ON_ROLLBACK = "on_rollback"
    ON_CHANGE = "on_change"


_HOOKS_OF = {
    "promoted": (Hook.AFTER_PROMOTION, Hook.ON_CHANGE),
    "rolled_back": (Hook.ON_ROLLBACK, Hook.ON_CHANGE),
}
"""Who is told of a moment; of the others on_change alone."""

_SENTENCES = {
    "began": "a {strategy} of revision {candidate} begins, beside revision {stable}",
    "shifted": "revision {candidate} gets {requests}",
    "pause": "the rollout of revision {candidate} is paused at {share}",
    "resume": "the rollout of revision {candidate} goes on at {share}",
    "held": "the rollout of revision {candidate} holds at {share} without a verdict",
    "promoted": "revision {candidate} is promoted: it has all traffic",
    "rolled_back": "revision {candidate} is taken back: revision {stable} has all traffic",
    "replaced": "revision {candidate} is left for another one",
}
"""What notifications say of the moments that they tell; the others only lead to one of these."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gates of one hook say together: they open, they may open later, or neither, which is a refusal."""

    opens: bool
    waits: bool = False
    why: str = ""


class Gates:
    """Those whom one spec names."""

    def __init__(self, session: Session) -> None:
        """Ask and tell for `session`; nobody is called yet."""
        self._session = session
        self._rollout = session.spec.rollout

    def require(self) -> None:
        """Return if everybody can be called, as far as that is known without calling.

        Raises:
            ExtraMissing: a topic of SNS is to be told, and boto3 is not installed.
            UsageError: a variable that shall have an address is not set, or has none.
        """
        for hook in Hook:
            for number, gate in enumerate(self._of(hook)):
                if gate.url:
                    self._require_address(gate.url, f"rollout.gates.{hook.value}[{number}].url")
        for number, target in enumerate(self._rollout.notify):
            if target.startswith("arn:"):
                outside.require_sns()
            else:
                self._require_address(target, f"rollout.notify[{number}]")

    def _require_address(self, url: str, path: str) -> None:
        try:
            self._address(url)
        except Unanswered as error:
            raise UsageError(
                "an address is not there", why=f"{path}: {error}", hint=f"export {url.removeprefix(_ENV)}=https://…"
            ) from error

    def ask(self, hook: Hook, rollout: Rollout, urgent: Callable[[], bool] = never) -> Answer:
        """Return what the gates of `hook` say, asked in order until one does not open.

        `urgent` is looked at all the time; once it is True, whoever is being asked is left, and the answer is to wait.
        """
        document = facts(self._session, rollout, hook)
        for number, gate in enumerate(self._of(hook)):
            try:
                answer = self._asked(gate, document, urgent)
            except Outranked:
                return Answer(opens=False, waits=True, why="something more urgent came")
            if not answer.opens:
                return Answer(opens=False, waits=answer.waits, why=f"{_place(gate, hook, number)}: {answer.why}")
        return Answer(opens=True)

    def tell(self, rollout: Rollout, urgent: Callable[[], bool] = never) -> list[str]:
        """Tell the last moment of `rollout`; return who could not be told, and why: warnings, never an error.

        `urgent` as in `ask`; then the rest is not told.
        """
        moment = rollout.history[-1]
        missed = []
        try:
            for hook in _HOOKS_OF.get(moment.what, (Hook.ON_CHANGE,)):
                document = facts(self._session, rollout, hook)
                for number, gate in enumerate(self._of(hook)):
                    answer = self._asked(gate, document, urgent)
                    if not answer.opens:
                        missed.append(f"{_place(gate, hook, number)}: {answer.why}")
            if moment.what in _SENTENCES:
                missed += self._notified(rollout, moment, urgent)
        except Outranked:
            missed.append(f"not everybody was told of {moment.what!r}: something more urgent came")
        return missed

    def _of(self, hook: Hook) -> tuple[Gate, ...]:
        found: tuple[Gate, ...] = getattr(self._rollout.gates, hook.value)
        return found

    def _asked(self, gate: Gate, document: Mapping[str, Any], urgent: Callable[[], bool]) -> Answer:
        timeout_s = gate.timeout.total_seconds()
        try:
            if gate.command is None:
                clock = self._session.world.clock
                url = self._address(gate.url or "")
                return _of_status(
                    outside.post(url, _encoded(document), timeout_s=timeout_s, urgent=urgent, clock=clock)
                )
            return _of_code(
                outside.run(
                    gate.command,
                    _encoded(document),
                    _variables(document),
                    folder=self._session.spec_path.resolve().parent,
                    timeout_s=timeout_s,
                    urgent=urgent,
                )
            )
        except Unanswered as error:
            return Answer(opens=False, why=str(error))

    def _address(self, url: str) -> str:
        """Return an address, looked up in the environment where only its variable is named."""
        if not url.startswith(_ENV):
            return url
        name = url.removeprefix(_ENV)
        found = self._session.world.variables.get(name, "")
        if not is_web_address(found):
            raise Unanswered(f"the variable {name} has no address of http or https" if found else f"{name} is not set")
        return found

    def _notified(self, rollout: Rollout, moment: Moment, urgent: Callable[[], bool]) -> Iterator[str]:
        """Tell those of `rollout.notify`; yield who could not be told, and why."""
        text = self._sentence(rollout, moment)
        document = {"text": text, **facts(self._session, rollout)}
        for number, target in enumerate(self._rollout.notify):
            try:
                answered = self._sent(target, text, document, urgent)
            except (Unanswered, ExtraMissing) as error:
                yield f"rollout.notify[{number}] ({_whom(target)}): {error}"
                continue
            if answered is not None and answered.code not in _OK:
                yield f"rollout.notify[{number}] ({_whom(target)}): {_of_status(answered).why}"

    def _sent(self, target: str, text: str, document: Mapping[str, Any], urgent: Callable[[], bool]) -> Answered | None:
        if target.startswith("arn:"):
            subject = "".join(each if " " <= each <= "~" else "?" for each in text)[:LONGEST_SUBJECT]
            message = json.dumps(document, indent=1, ensure_ascii=False)
            outside.publish(target, subject, message, timeout_s=NOTIFY_TIMEOUT_S, urgent=urgent)
            return None
        clock = self._session.world.clock
        return outside.post(
            self._address(target), _encoded(document), timeout_s=NOTIFY_TIMEOUT_S, urgent=urgent, clock=clock
        )

    def _sentence(self, rollout: Rollout, moment: Moment) -> str:
        copies = "copies of " if rollout.strategy == "shadow" else ""
        said = _SENTENCES[moment.what].format(
            strategy=rollout.strategy,
            stable=rollout.stable.id,
            candidate=rollout.candidate.id,
            share=share_text(moment.share),
            requests=f"{copies}{share_text(moment.share)} of the requests",
        )
        return f"{self._session.identity.name}: {said}{f' ({moment.text})' if moment.text else ''}"


def facts(session: Session, rollout: Rollout, hook: Hook | None = None) -> dict[str, Any]:
    """Return what whoever is asked or told gets to know, as JSON has it; the same keys each time."""
    moment = rollout.history[-1] if rollout.history else None
    return {
        "version": 1,
        "hook": hook.value if hook else None,
        "at": session.world.clock.now().isoformat(),
        "deployment": session.identity.name,
        "provider": session.identity.provider,
        "rollout": rollout.id,
        "strategy": rollout.strategy,
        "phase": rollout.phase.value,
        "baseline": rollout.stable.id,
        "candidate": rollout.candidate.id,
        "share_percent": rollout.share / _BASIS_POINTS,
        "next_share_percent": _next_share(rollout) / _BASIS_POINTS,
        "verdict": rollout.outcome or None,
        "verdicts": [each.model_dump(mode="json") for each in rollout.verdicts],
        "why": rollout.why or None,
        "event": moment.model_dump(mode="json", include={"at", "what", "text"}) if moment else None,
    }


def _next_share(rollout: Rollout) -> int:
    """Return the share that comes next if nothing is in the way, in basis points."""
    if not rollout.is_live:
        return rollout.share
    steps = (*rollout.shares, WHOLE)
    return steps[rollout.step + (rollout.share == steps[rollout.step])]


def _variables(document: Mapping[str, Any]) -> dict[str, str]:
    return {
        "MLSCALE_BASELINE": document["baseline"],
        "MLSCALE_CANDIDATE": document["candidate"],
        "MLSCALE_DEPLOYMENT": document["deployment"],
        "MLSCALE_EVENT": (document["event"] or {}).get("what", ""),
        "MLSCALE_HOOK": document["hook"],
        "MLSCALE_NEXT_SHARE": percent_text(document["next_share_percent"]).removesuffix("%"),
        "MLSCALE_ROLLOUT": document["rollout"],
        "MLSCALE_SHARE": percent_text(document["share_percent"]).removesuffix("%"),
        "MLSCALE_VERDICT": document["verdict"] or "",
    }


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _of_code(answered: Answered) -> Answer:
    how = f"exit code {answered.code}" if answered.code >= 0 else f"ended by signal {-answered.code}"
    return Answer(not answered.code, answered.code == NOT_YET, f"{how}{_said(answered)}")


def _of_status(answered: Answered) -> Answer:
    why = f"it answered {answered.code}{_said(answered)}"
    return Answer(answered.code in _OK, answered.code in NOT_YET_STATUS, why)


def _said(answered: Answered) -> str:
    return f": {answered.said}" if answered.said else ""


def _place(gate: Gate, hook: Hook, number: int) -> str:
    return f"rollout.gates.{hook.value}[{number}] ({_whom(gate.command or gate.url or '')})"


def _whom(target: str) -> str:
    """Return a name for whoever is called; the rest of an address may be secret."""
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        return f"{parts.scheme}://{parts.netloc}"
    shown = " ".join(target.split())
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
