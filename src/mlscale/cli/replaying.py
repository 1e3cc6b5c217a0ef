"""`mlscale rollout replay`: judge recorded evidence, away from any endpoint."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.cli import options
from mlscale.cli.checking import STDIN, text_of
from mlscale.cli.console import Output
from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.rollout.judge import Judge, MetricRule
    from mlscale.rollout.replay import Replayed

EPILOG = """\b
A line:
  {"rollout": "r1", "at": "2026-01-01T00:01:00Z",
   "baseline": {"requests": 540, "errors": 3, "slow": 12},
   "candidate": {"requests": 60, "errors": 0, "slow": 1}}

""" + options.examples(
    "mlscale rollout replay windows.jsonl",
    "mlscale rollout replay windows.jsonl --spec spec.yaml --output jsonl",
    "mlscale rollout replay - --margin 0.5% --windows 60 < windows.jsonl",
)
_MARKS = {"promote": "+", "roll_back": "-", "inconclusive": "~"}
_WORDS = {"promote": "promoted", "roll_back": "rolled back", "inconclusive": "inconclusive"}
_FIGURES = 6
_WHOLE = 100


def replay(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON, a line for each rollout and window; - reads stdin.", readable=False),
    ],
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", help="Judge by this spec's rollout.analysis.", readable=False),
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    false_alarm: Annotated[
        str | None,
        typer.Option("--false-alarm", metavar="PERCENT", help="How many healthy candidates may fail, like 1%."),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option("--margin", metavar="PERCENT", help="How much worse a candidate may be and pass, like 1%."),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(
            "--windows", metavar="COUNT", min=1, help="Windows after which there is a decision at the latest."
        ),
    ] = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Judge recorded evidence: JSON lines in, a decision for each rollout out.

    A rollout is rolled back at the first window that shows it to be worse, and promoted at the first that shows it not
    to be worse by more than the margin. Lines come in time order, and rollouts may be mixed. No cloud is asked.
    """
    from mlscale.cli.console import show
    from mlscale.rollout.replay import decisions

    new_judge, own = _judging(context, spec, env, overrides or [], _share(false_alarm, "--false-alarm"), margin)
    found: list[Replayed] = []
    with _lines(file) as lines, _without_collection():
        for each in decisions(lines, str(file), new_judge, own, windows):
            if output is Output.JSONL:
                show("", _facts(each), output)
            elif output is Output.TEXT:
                show(_text(each), {}, output, no_color=no_color)
            found.append(each)
    if output is Output.TEXT:
        show(f"\n{_summary(found)}", {}, output, no_color=no_color)
    elif output is Output.JSON:
        show("", {"rollouts": [_facts(each) for each in found]}, output)


def _judging(
    context: typer.Context,
    spec: Path | None,
    env: str | None,
    overrides: Sequence[str],
    false_alarm: float | None,
    margin: str | None,
) -> tuple[Callable[[], Judge], Sequence[str]]:
    """Return what makes a judge by the spec, or by what is usual, and the metrics that a line may name besides."""
    from mlscale.rollout.judge import FALSE_ALARM, MARGIN, MIN_REQUESTS, Judge
    from mlscale.rollout.replay import usual_rules

    allowed = _share(margin, "--margin")
    if spec is None:
        if env is not None or overrides:
            raise UsageError(
                "there is no spec to lay anything over", why="--env and --set change one", hint="add --spec"
            )
        rules: Sequence[MetricRule] = usual_rules(MARGIN if allowed is None else allowed)
        fewest, alarm = MIN_REQUESTS, FALSE_ALARM
    else:
        from mlscale.engine.evidence import rules_of
        from mlscale.spec.parse import parse

        checked = parse(text_of(spec), str(spec), variables=options.variables_of(context), env=env, overrides=overrides)
        analysis = checked.rollout.analysis
        rules = [_widened(rule, allowed) for rule in rules_of(analysis)]
        fewest, alarm = analysis.min_requests, analysis.false_alarm / 100
    chosen = alarm if false_alarm is None else false_alarm
    return lambda: Judge(rules, false_alarm=chosen, min_requests=fewest), [rule.name for rule in rules]


def _widened(rule: MetricRule, margin: float | None) -> MetricRule:
    from dataclasses import replace

    return rule if margin is None or rule.margin is None else replace(rule, margin=margin)


def _share(text: str | None, option: str) -> float | None:
    """Return the share that a percentage on the command line says.

    Raises:
        UsageError: it is none, or not between nothing and everything.
    """
    from mlscale.quantities import percent_of

    if text is None:
        return None
    try:
        percent = percent_of(text)
    except ValueError as error:
        raise UsageError(f"{option} is not valid", why=str(error)) from error
    if not 0 < percent < _WHOLE:
        raise UsageError(f"{option} is not valid", why=f"{text} is not between 0% and 100%", hint=f"{option} 1%")
    return percent / _WHOLE


@contextmanager
def _lines(file: Path) -> Iterator[Iterable[bytes]]:
    """Yield the lines of a file, of stdin for `-`.

    Raises:
        UsageError: it can't be read.
    """
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as lines:
            yield lines
    except OSError as error:
        raise UsageError("the evidence can't be read", why=f"{file}: {error.strerror}") from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Leave the garbage collector off: nothing here is in a cycle, and it takes as long as all else together."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _facts(found: Replayed) -> dict[str, Any]:
    because = found.because
    return {
        "rollout": found.rollout,
        "decision": found.decision.value,
        "at": found.at,
        "windows": found.windows,
        "because": {
            "metric": because.metric,
            "outcome": because.outcome.value,
            "candidate": _rounded(because.candidate),
            "baseline": _rounded(because.baseline),
            "bound": _rounded(because.bound),
            "n": because.n,
            "missing": because.missing,
            "why": because.why,
        },
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else float(f"{share:.{_FIGURES}g}")


def _text(found: Replayed) -> str:
    windows = "1 window" if found.windows == 1 else f"{found.windows} windows"
    first = f"{_MARKS[found.decision]} {found.rollout}: {_WORDS[found.decision]} at {found.at} after {windows}"
    return f"{first}\n    {found.because.metric}: {found.because.why}"


def _summary(found: Sequence[Replayed]) -> str:
    counted = Counter(each.decision.value for each in found)
    each = ", ".join(f"{counted[decision]} {words}" for decision, words in _WORDS.items() if counted[decision])
    return f"{len(found)} rollout{'s' * (len(found) != 1)}{': ' * bool(each)}{each}"
