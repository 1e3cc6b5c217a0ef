"""A rollout as text on 80 columns, as Markdown, as one page and as facts."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from mlscale.deployment import WHOLE, revision_of
from mlscale.report import rollout as report
from mlscale.report.rollout_page import MOST_POINTS
from mlscale.report.rollout_words import rate_text
from mlscale.state.rollouts import Counted, Judged, Moment, Phase, Rollout
from tests.builders import NOON, a_content
from tests.conftest import Golden

OLD, NEW = (revision_of(a_content(each)) for each in ("one", "two"))
MINUTE = timedelta(minutes=1)

PASS = Judged(
    metric="error_rate", outcome="pass", candidate=0.005, baseline=0.0042, bound=0.00812, n=6400, margin=0.01, max=0.02
)
OPEN = Judged(
    metric="latency",
    outcome="inconclusive",
    candidate=0.012,
    baseline=0.011,
    bound=0.0141,
    n=640,
    margin=0.01,
    max=0.01,
    missing=2100,
    why="1.2% of 640, baseline 1.1% of 5,760: worse by 1.41% at most",
)
FAIL = Judged(
    metric="error_rate",
    outcome="fail",
    candidate=0.08,
    baseline=0.005,
    bound=0.0252,
    n=600,
    margin=0.01,
    why="8% of 600, baseline 0.5% of 5,400: worse, by 2.52% at least",
)


def a_rollout(**fields: Any) -> Rollout:
    """Return a canary that has been at its first share for ten minutes and is at the second."""
    known: dict[str, Any] = {
        "id": "20260101T120000-abc123",
        "strategy": "canary",
        "phase": Phase.PROGRESSING,
        "stable": OLD,
        "candidate": NEW,
        "shares": (1000, 5000),
        "step": 1,
        "share": 5000,
        "began_at": NOON,
        "driven_at": NOON,
        "step_at": NOON + 11 * MINUTE,
        "history": (
            Moment(at=NOON, what="began", share=0, text=f"{OLD.id} → {NEW.id}"),
            Moment(at=NOON + MINUTE / 2, what="shifted", share=1000),
            Moment(at=NOON + 11 * MINUTE, what="shifted", share=5000),
        ),
        "windows": (
            a_window(1, (2, 540), (0, 60)),
            a_window(2, (3, 540), (1, 60)),
            a_window(5, (3, 300), (3, 300)),
        ),
    }
    return Rollout(**{**known, **fields})


def a_window(minute: int, baseline: tuple[int, int], candidate: tuple[int, int]) -> Counted:
    """Return a minute's counts of errors."""
    start = NOON + minute * MINUTE
    return Counted(
        start=start, end=start + MINUTE, baseline={"error_rate": baseline}, candidate={"error_rate": candidate}
    )


def taken_back() -> Rollout:
    """Return a canary that failed at its second share."""
    ended = NOON + 13 * MINUTE + timedelta(seconds=9)
    moment = Moment(at=ended, what="rolled_back", share=0, text=FAIL.why)
    made = a_rollout(
        phase=Phase.ROLLED_BACK, share=0, ended_at=ended, outcome="fail", why=FAIL.why, verdicts=(FAIL, OPEN)
    )
    return made.model_copy(update={"history": (*made.history, moment)})


def test_a_live_rollout_reads_from_its_traffic_to_what_is_next() -> None:
    """Shares as bars, steps with the one it is at, a row a metric with its figures, what happened, what comes."""
    assert report.text(a_rollout(verdicts=(PASS, OPEN))) == (
        "Rollout 20260101T120000-abc123: canary, progressing\n"
        "  time        since 2026-01-01 12:00 UTC\n"
        "  stable      a6a6ecfbf8     50%  ████████████████████\n"
        "  candidate   44913148b8     50%  ████████████████████\n"
        "  steps       10% ✓   50% ▸   100%\n"
        "\n"
        "  METRIC      VERDICT           CANDIDATE  BASELINE  WORSE BY  MARGIN  MAX\n"
        "✓ error_rate  pass          0.5% of 6,400     0.42%  ≤ 0.812%      1%   2%\n"
        "… latency     inconclusive    1.2% of 640      1.1%   ≤ 1.41%      1%   1%\n"
        "  latency: about 2,100 more requests are needed\n"
        "\n"
        "  12:00:00      0%  began: a6a6ecfbf8 → 44913148b8\n"
        "  12:00:30     10%  shifted\n"
        "  12:11:00     50%  shifted\n"
        "\n"
        "  next        all traffic when its time is over and every metric passes, while\n"
        "              somebody drives it: mlscale rollout --auto"
    )


def test_one_that_was_taken_back_says_why_and_where() -> None:
    """How long it took, the step that it failed at, the figures, and how to try it again."""
    assert report.text(taken_back()) == (
        "Rollout 20260101T120000-abc123: canary, rolled back\n"
        "  time        2026-01-01 12:00 to 12:13 UTC, 13m9s\n"
        "  stable      a6a6ecfbf8    100%  ████████████████████████████████████████\n"
        "  candidate   44913148b8      0%\n"
        "  steps       10% ✓   50% ✗   100%\n"
        "\n"
        "  METRIC      VERDICT         CANDIDATE  BASELINE  WORSE BY  MARGIN  MAX\n"
        "✗ error_rate  fail            8% of 600      0.5%   ≥ 2.52%      1%    -\n"
        "… latency     inconclusive  1.2% of 640      1.1%   ≤ 1.41%      1%   1%\n"
        "  error_rate: 8% of 600, baseline 0.5% of 5,400: worse, by 2.52% at least\n"
        "  latency: about 2,100 more requests are needed\n"
        "\n"
        "  12:00:00      0%  began: a6a6ecfbf8 → 44913148b8\n"
        "  12:00:30     10%  shifted\n"
        "  12:11:00     50%  shifted\n"
        "  12:13:09      0%  rolled back: 8% of 600, baseline 0.5% of 5,400: worse, by\n"
        "                    2.52% at least\n"
        "\n"
        "  next        mlscale rollout retry tries it once more"
    )


def test_columns_without_a_figure_are_left_out() -> None:
    """A metric that is held to a maximum alone has no comparison; one without requests has no rate."""
    most = Judged(metric="refusals", outcome="fail", candidate=0.031, bound=0.02, n=900, max=0.02, why="above 2%")
    none = Judged(metric="empty", outcome="no_data", bound=1.0, max=0.02, why="the candidate had no requests")

    lines = report.text(a_rollout(verdicts=(most, none))).split("\n\n")[1].splitlines()

    assert lines == [
        "  METRIC    VERDICT    CANDIDATE  MAX",
        "✗ refusals  fail     3.1% of 900   2%",
        "? empty     no data            -   2%",
        "  refusals: above 2%",
        "  empty: the candidate had no requests",
    ]


@pytest.mark.parametrize(
    ("judged", "worse_by"),
    [
        (PASS, "≤ 0.812%"),
        (FAIL, "≥ 2.52%"),
        (FAIL.model_copy(update={"max": 0.0252}), "-"),
        (OPEN.model_copy(update={"bound": 1.0}), "-"),
        (OPEN.model_copy(update={"bound": None}), "-"),
    ],
    ids=["at most", "at least", "the maximum", "says nothing", "none"],
)
def test_a_bound_is_shown_where_it_bounds_the_difference(judged: Judged, worse_by: str) -> None:
    """Not where it is the maximum that was broken, nor where it excludes nothing."""
    line = report.text(a_rollout(verdicts=(judged, PASS))).split("\n\n")[1].splitlines()[1]

    assert re.split(r" {2,}", line)[4] == worse_by


def test_no_line_is_wider_than_a_terminal() -> None:
    """Whatever a metric is called and however large the counts are; a long name is cut, in the table alone."""
    wide = OPEN.model_copy(
        update={"metric": "prediction_drift_of_the_last_layer", "n": 12_345_678, "candidate": 0.0123}
    )

    shown = report.text(a_rollout(verdicts=(wide, PASS), why="w" * 60 + " " + "y" * 60, id="i" * 50))

    assert max(len(line) for line in shown.splitlines()) <= 79
    assert "… predicti" in shown
    assert "prediction_drift_of_the_last_layer: about 2,100 more requests are needed" in shown


def test_a_live_one_stays_on_the_screen() -> None:
    """It is drawn again and again: the last of what happened is enough; in a report all of it."""
    history = tuple(Moment(at=NOON + each * MINUTE, what="pause", share=1000, text=str(each)) for each in range(12))

    live = report.text(a_rollout(history=history))
    ended = report.text(a_rollout(history=history, phase=Phase.PROMOTED, ended_at=NOON + 20 * MINUTE))

    assert [live.count("paused: "), ended.count("paused: ")] == [4, 12]


@pytest.mark.parametrize(
    ("phase", "following"),
    [
        (Phase.PAUSED, "mlscale rollout resume, or mlscale rollout abort"),
        (Phase.HOLDING, "mlscale rollout promote, or mlscale rollout abort; mlscale rollout --auto goes the steps"),
        (Phase.PROMOTING, "the old revision goes; if nobody does it any more: mlscale rollout --auto"),
        (Phase.ABORTING, "the candidate goes; if nobody does it any more: mlscale rollout abort"),
        (Phase.PROMOTED, f"mlscale rollback would go back to revision {OLD.id}"),
        (Phase.ROLLED_BACK, "mlscale rollout retry tries it once more"),
        (Phase.REPLACED, ""),
    ],
)
def test_every_phase_says_what_comes_next(phase: Phase, following: str) -> None:
    """With the command that leads there; of one that another took the place of, nothing comes."""
    _, _, shown = report.text(a_rollout(phase=phase)).partition("  next ")

    assert " ".join(shown.split()) == following


def test_a_shadow_gets_copies() -> None:
    """The stable revision answers all requests."""
    lines = report.text(a_rollout(strategy="shadow", shares=(3000,), step=0, share=3000)).splitlines()

    assert lines[2:5] == [
        f"  stable      {OLD.id}    100%  {'█' * 40}",
        f"  copies      {NEW.id}     30%  {'█' * 12}",
        "  steps       30% ▸   100%",
    ]


def test_markdown_has_the_same_in_tables() -> None:
    """For a pull request; what a user wrote is not read as Markdown."""
    made = taken_back()
    odd = made.history[-1].model_copy(update={"what": "promote", "text": "by <b>@all</b> | *x*"})

    assert report.markdown(made.model_copy(update={"history": (*made.history, odd)})) == (
        "### Rollout 20260101T120000-abc123: canary, rolled back\n"
        "\n"
        "`a6a6ecfbf8` → `44913148b8`, 2026-01-01 12:00 to 12:13 UTC, 13m9s. Steps: 10% ✓, 50% ✗, 100%.\n"
        "\n"
        "8% of 600, baseline 0.5% of 5,400: worse, by 2.52% at least\n"
        "\n"
        "| | metric | verdict | candidate | baseline | worse by | margin | max | |\n"
        "|---|---|---|--:|--:|--:|--:|--:|---|\n"
        "| ✗ | error\\_rate | fail | 8% of 600 | 0.5% | ≥ 2.52% | 1% | - | "
        "8% of 600, baseline 0.5% of 5,400: worse, by 2.52% at least |\n"
        "| … | latency | inconclusive | 1.2% of 640 | 1.1% | ≤ 1.41% | 1% | 1% | "
        "about 2,100 more requests are needed |\n"
        "\n"
        "| UTC | candidate's share | what happened |\n"
        "|---|--:|---|\n"
        "| 12:00:00 | 0% | began: a6a6ecfbf8 → 44913148b8 |\n"
        "| 12:00:30 | 10% | shifted |\n"
        "| 12:11:00 | 50% | shifted |\n"
        "| 12:13:09 | 0% | rolled back: 8% of 600, baseline 0.5% of 5,400: worse, by 2.52% at least |\n"
        "| 12:13:09 | 0% | promote: by \\<b\\>\\@all\\</b\\> \\| \\*x\\* |\n"
        "\n"
        "Next: mlscale rollout retry tries it once more\n"
    )


def test_the_facts_are_plain_values() -> None:
    """Shares in basis points, rates 0 to 1, times in ISO 8601, durations in seconds, as in other JSON."""
    facts = report.data(a_rollout(verdicts=(PASS,)))

    assert facts["share"] == 5000
    assert facts["verdicts"][0]["bound"] == 0.00812
    assert facts["history"][0] == {
        "at": "2026-01-01T12:00:00+00:00",
        "what": "began",
        "share": 0,
        "text": f"{OLD.id} → {NEW.id}",
    }
    assert facts["candidate"]["content"]["health"]["startup_timeout"] == 600.0
    assert facts["windows"][0]["candidate"] == {"error_rate": [0, 60]}


class Page(HTMLParser):
    """What a page is made of: its tags, each with what it has, and whether each was closed in order."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag that is closed at once."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Take the end of the last one that is open."""
        if tag != "circle":
            assert self.open.pop() == tag

    def of_class(self, tag: str, kind: str) -> list[dict[str, str | None]]:
        """Return what the tags of a class have."""
        return [has for name, has in self.tags if name == tag and has.get("class") == kind]


def test_the_page_is_as_it_was_looked_at(golden: Golden) -> None:
    """Verdicts, traffic and each metric over time, what happened; a golden file that was seen in a browser."""
    golden.check("report/rollout.html", report.html(taken_back()))


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    """No script, no link, no picture, no address: it may be sent as a file, and says so to the browser."""
    page = Page(report.html(taken_back()))

    assert not page.open
    assert {tag for tag, _ in page.tags} <= {
        *("html", "meta", "title", "style", "h1", "h2", "p", "span", "i", "code", "div", "table", "tr", "th", "td"),
        *("figure", "figcaption", "svg", "line", "text", "path", "circle", "footer"),
    }
    assert [name for _, has in page.tags for name in has if name.startswith("on") or name in ("href", "src")] == []
    assert "default-src 'none'" in (page.tags[2][1]["content"] or "")


def test_what_others_wrote_is_text_on_the_page() -> None:
    """A metric's name, a reason and an id come from elsewhere."""
    odd = "<script>alert('x')</script>\"&"
    window = Counted(start=NOON, end=NOON + MINUTE, baseline={odd: (1, 2)}, candidate={odd: (1, 2)})
    moment = Moment(at=NOON, what=odd, share=0, text=odd)
    verdict = OPEN.model_copy(update={"metric": odd, "why": odd, "missing": None, "outcome": "error"})

    page = report.html(
        a_rollout(id=odd, strategy=odd, why=odd, history=(moment,), windows=(window,), verdicts=(verdict,))
    )

    assert "<script" not in page
    assert not Page(page).open


def test_a_plot_is_broken_where_nothing_was_counted() -> None:
    """A line over minutes without data would claim what nobody measured; a window without requests has no rate."""
    windows = [a_window(each, (1, 100), (1, 100 if each != 4 else 0)) for each in (1, 2, 4, 5, 8)]

    page = Page(report.html(a_rollout(windows=tuple(windows))))

    paths = [has["d"] or "" for kind in ("candidate", "baseline") for has in page.of_class("path", f"line {kind}")]
    assert [(path.count("M"), path.count("L")) for path in paths[1:]] == [(3, 1), (3, 2)]


def test_a_long_rollout_is_pooled_for_its_plots() -> None:
    """Days of minutes become points that have room; what was counted is added up, not left out."""
    windows = tuple(a_window(each, (1, 100), (2, 100)) for each in range(10_000))

    page = Page(report.html(a_rollout(windows=windows)))

    (path,) = [has["d"] or "" for has in page.of_class("path", "line baseline")]
    assert path.count("L") + 1 <= MOST_POINTS
    assert len(set(re.findall(r" ([\d.]+)", path))) == 1
    assert page.of_class("circle", "dot baseline") == []


def test_a_maximum_far_above_is_named_and_not_drawn() -> None:
    """It would leave the two lines no room; one that is near is drawn."""
    far, near = (
        Page(report.html(a_rollout(verdicts=(PASS.model_copy(update={"max": most}),)))).of_class("line", "max")
        for most in (0.5, 0.02)
    )

    assert (len(far), len(near)) == (0, 1)


def test_a_page_of_one_that_has_just_begun_says_that_nothing_was_measured() -> None:
    """Without a window, without a verdict, without a moment."""
    begun = a_rollout(history=(), windows=(), step=0, share=0, step_at=None)
    silent = begun.model_copy(
        update={"verdicts": (Judged(metric="error_rate", outcome="no_data", why="no window yet"),)}
    )

    assert "<svg" not in report.html(begun)
    assert "Nothing was measured." in report.html(silent)


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "-"), (0.0, "0%"), (0.00005, "0.005%"), (0.0012345, "0.123%"), (0.5, "50%"), (1.0, "100%")],
)
def test_a_rate_has_three_figures(share: float | None, text: str) -> None:
    """More would be noise, fewer would make a small one zero."""
    assert rate_text(share) == text


def test_days_are_named_where_a_rollout_took_several() -> None:
    """Else two events at the same time of day would look like one."""
    later = Moment(at=NOON + timedelta(days=2), what="promoted", share=WHOLE)
    made = a_rollout(phase=Phase.PROMOTED, ended_at=later.at, share=WHOLE)

    shown = report.text(made.model_copy(update={"history": (*made.history, later)}))

    assert "2026-01-01 12:00 to 2026-01-03 12:00 UTC, 2d" in shown
    assert "01-01 12:00:30     10%  shifted" in shown
