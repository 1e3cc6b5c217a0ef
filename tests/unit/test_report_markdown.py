"""Plans as Markdown: for a comment on a pull request, whatever the values hold."""

from __future__ import annotations

from mlscale.plan import make
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.report import markdown
from tests.builders import NOON, a_deployment


def test_a_plan_is_one_table() -> None:
    """A row a step, its fields as code, then cost and warnings."""
    steps: tuple[Step[object], ...] = (
        Step("v7/add", StepKind.CREATE, "revision v7", None, changes=(Change("model.handler", "a1", None),)),
        Step("v7/wait", StepKind.WAIT, "revision v7", None, after=("v7/add",)),
        Step("v6/drop", StepKind.DELETE, "revision v6", None, ("v7/wait",), (Change("x", "1", None),), destroys=True),
    )
    made = make.plan(a_deployment(), None, steps, now=NOON, warnings=("m.pkl is a pickle",))

    assert markdown.plan(made, title="mlscale plan: local/reviews") == (
        "### mlscale plan: local/reviews\n"
        "\n"
        "| | step | what | changes |\n"
        "|---|---|---|---|\n"
        "| + | add | revision v7 | `model.handler`: `a1` → `nothing` |\n"
        "|  | wait | revision v7 |  |\n"
        "| - | drop | revision v6  (destroys) |  |\n"
        "\n"
        "Cost: unknown: no price book\n"
        "\n"
        "**Warning:** m.pkl is a pickle\n"
    )


def test_no_changes_are_one_sentence() -> None:
    """A plan without steps has no table."""
    same = a_deployment()

    assert markdown.plan(make.plan(same, same, (), now=NOON), title="t") == "### t\n\nNo changes.\n"


def test_values_are_never_read_as_markdown() -> None:
    """A pipe, a line break, a backtick, a tag or a mention in a value changes neither the table nor the page."""
    change = Change("labels.a", "x|y\nz", "`b` @team")
    step: Step[object] = Step("e/configure", StepKind.UPDATE, "a|b <b> *c* \\|", None, changes=(change,))
    made = make.plan(a_deployment(), None, [step], now=NOON, warnings=("[a](b)",))

    assert markdown.plan(made, title="a_b").splitlines() == [
        "### a\\_b",
        "",
        "| | step | what | changes |",
        "|---|---|---|---|",
        "| ~ | configure | a\\|b \\<b\\> \\*c\\* \\\\\\| | `labels.a`: `x\\|y z` → `` `b` @team `` |",
        "",
        "Cost: unknown: no price book",
        "",
        "**Warning:** \\[a\\](b)",
    ]
