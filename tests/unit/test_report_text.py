"""Plans and deployments as words: what a user reads on 80 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from mlscale.deployment import WHOLE, Identity, Kind, Live, Phase, Replica, Role, Scaling, ServedRevision, revision_of
from mlscale.plan import make
from mlscale.plan.steps import Change, Step, StepKind, Unknown
from mlscale.report import text
from mlscale.report.tables import table
from tests.builders import NOON, a_content, a_deployment


def a_step(key: str, kind: StepKind = StepKind.UPDATE, subject: str = "revision 1", **fields: object) -> Step[object]:
    """Return a step without payload that costs nothing."""
    return replace(Step(key, kind, subject, None, cost_delta=Decimal(0)), **fields)  # type: ignore[arg-type]


def test_a_plan_reads_from_what_is_added_to_what_is_next() -> None:
    """A line a step with its mark, act and subject, the fields below, then warnings, cost, and the next command."""
    steps = (
        a_step("v7/add", StepKind.CREATE, "revision v7 with 2 replicas", changes=(Change("model.source", "a1", "b2"),)),
        a_step("v7/wait", StepKind.WAIT, "revision v7", after=("v7/add",)),
        a_step(
            "v7/shift",
            StepKind.SHIFT,
            "revision v7",
            after=("v7/wait",),
            changes=(Change("revision v6", "100%", "0%"), Change("revision v7", "0%", "100%")),
        ),
        a_step("v7/bake", StepKind.WAIT, "revision v7", after=("v7/shift",), expected=timedelta(minutes=10)),
        a_step("endpoint/configure", after=("v7/bake",), subject="endpoint settings", interrupts=True),
        a_step(
            "v6/drop",
            StepKind.DELETE,
            "revision v6",
            after=("v7/bake",),
            destroys=True,
            changes=(Change("revision v6", "100%", None),),
        ),
    )
    made = make.plan(a_deployment(), None, steps, now=NOON, warnings=("model.joblib is a pickle",))

    assert text.plan(made, next_command="mlscale deploy spec.yaml") == (
        "  + add       revision v7 with 2 replicas\n"
        "              model.source: a1 → b2\n"
        "    wait      revision v7\n"
        "  ~ shift     v6 100% → 0%   v7 0% → 100%\n"
        "    bake      revision v7  (about 10m)\n"
        "  ~ configure endpoint settings  (interrupts)\n"
        "  - drop      revision v6  (destroys)\n"
        "  ! warning   model.joblib is a pickle\n"
        "    cost      +$0.00/h\n"
        "6 steps. To make them: mlscale deploy spec.yaml"
    )


def test_a_plan_without_steps_says_so() -> None:
    """No difference is one sentence, without a cost and without a next command."""
    same = a_deployment()

    made = make.plan(same, same, (), now=NOON)

    assert text.plan(made, next_command="x") == "No changes: what is there is what the spec asks for."


def test_one_step_is_not_called_steps() -> None:
    """The last line counts in words that fit."""
    made = make.plan(a_deployment(), None, [a_step("endpoint/start", StepKind.CREATE, "endpoint r")], now=NOON)

    assert text.plan(made, next_command="go").splitlines() == [
        "  + start     endpoint r",
        "    cost      +$0.00/h",
        "1 step. To make it: go",
    ]


def test_long_lines_go_on_below_themselves() -> None:
    """A warning or value wider than the terminal is folded under its own beginning; no word is cut."""
    path = "/models/" + "x" * 90
    step = a_step("endpoint/configure", changes=(Change("labels.note", None, "many words " * 8),))
    made = make.plan(a_deployment(), None, [step], now=NOON, warnings=(f"the file {path} is a pickle",))

    assert text.plan(made, next_command="go").splitlines() == [
        "  ~ configure revision 1",
        "              labels.note: many words many words many words many words many",
        "              words many words many words many words",
        "  ! warning   the file",
        f"              {path}",
        "              is a pickle",
        "    cost      +$0.00/h",
        "1 step. To make it: go",
    ]


@pytest.mark.parametrize(
    ("key", "act"), [("0123456789/add", "add"), ("files/revisions/abcdefabcd", "update"), ("0123456789", "update")]
)
def test_act_is_the_end_of_the_key_where_that_is_a_word(key: str, act: str) -> None:
    """Plan and progress use one word for a step; a key that ends in an id falls back to the kind."""
    assert text.act(a_step(key)) == act


@pytest.mark.parametrize(
    ("deltas", "words"),
    [
        ((), "+$0.00/h"),
        ((Decimal("0.2"), Decimal("0.1")), "+$0.30/h"),
        ((Decimal("-0.2"),), "-$0.20/h"),
        ((Decimal("0.001"),), "+$0.001000/h"),
        ((Decimal(3), Unknown("no price book")), "unknown: no price book"),
    ],
)
def test_unknown_cost_is_never_a_number(deltas: tuple[Decimal | Unknown, ...], words: str) -> None:
    """One step whose price nobody knows makes the whole unknown, with the reason; small prices are not rounded away."""
    assert text.cost_text(deltas) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("labels.a", None, "x"), "labels.a: x"),
        (Change("labels.a", "x", None), "labels.a: x → nothing"),
        (Change("labels.a", "x", ""), 'labels.a: x → ""'),
        (Change("labels.a", "", "x"), 'labels.a: "" → x'),
    ],
)
def test_empty_and_absent_read_differently(change: Change, words: str) -> None:
    """A label that is empty is not a label that is gone."""
    assert text.change_text(change) == words


def test_a_deployment_shows_address_traffic_and_health() -> None:
    """Where requests go, which revision has how much, and how each replica is, with long details folded."""
    detail = "ended with code 1: ValueError: the model was saved by another version of scikit-learn"
    replicas = (Replica("aa-1", "healthy"), Replica("aa-2", "backing_off", restarts=3, detail=detail))
    stable = ServedRevision(revision_of(a_content()), Role.STABLE, 8750, Live(2, 1), replicas)
    candidate = ServedRevision(revision_of(a_content("two")), Role.CANDIDATE, WHOLE - 8750)
    seen = a_deployment(
        identity=Identity("local", "reviews"),
        revisions=(stable, candidate),
        scaling=Scaling(min=2, max=4),
        labels={"team": "search", "project": "reviews"},
        address="http://127.0.0.1:8123",
        phase=Phase.FAILED,
        reason="it hangs",
    )

    assert text.deployment(seen) == (
        "local/reviews  failed: it hangs\n"
        "address   http://127.0.0.1:8123\n"
        "replicas  2 to 4\n"
        "labels    project=reviews, team=search\n"
        "\n"
        "REVISION    ROLE       TRAFFIC  READY  FRAMEWORK\n"
        f"{stable.revision.id}  stable     87.5%    1/2    custom\n"
        f"{candidate.revision.id}  candidate  12.5%    ?      custom\n"
        "\n"
        "REPLICA  HEALTH       RESTARTS  DETAIL\n"
        "aa-1     healthy      0\n"
        "aa-2     backing_off  3         ended with code 1: ValueError: the model was\n"
        "                                saved by another version of scikit-learn"
    )


def test_an_endpoint_without_revisions_has_no_table() -> None:
    """Right after its start an endpoint has an address at most; no empty table is shown."""
    bare = a_deployment(revisions=(), scaling=Scaling(min=2, max=2), phase=Phase.CHANGING)

    assert text.deployment(bare) == "fake/reviews  changing\naddress   none\nreplicas  2"


def test_a_deployment_that_is_steady_tells_what_failed_before() -> None:
    """A reason beside a deployment that serves is that of the last change, and reads so."""
    reason = "the container did not answer"

    steady = text.deployment(a_deployment(reason=reason)).splitlines()[0]
    failed = text.deployment(a_deployment(reason=reason, phase=Phase.FAILED)).splitlines()[0]

    assert steady == "fake/reviews  steady; the last change failed: the container did not answer"
    assert failed == "fake/reviews  failed: the container did not answer"


def test_a_serverless_deployment_has_workers_in_place_of_replicas() -> None:
    """What it may grow to is said by workers and their memory, and nobody knows how many there are."""
    revision = revision_of(a_content())
    seen = a_deployment(
        kind=Kind.SERVERLESS,
        revisions=(ServedRevision(revision, Role.STABLE, WHOLE),),
        scaling=Scaling(min=0, max=0),
        settings={"serverless.memory": "4Gi", "serverless.concurrency": "20", "serverless.provisioned": "2"},
    )

    assert text.deployment(seen) == (
        "fake/reviews  steady\n"
        "address   none\n"
        "workers   20 at most, 4Gi each, 2 kept warm\n"
        "\n"
        "REVISION    ROLE    TRAFFIC  READY  FRAMEWORK\n"
        f"{revision.id}  stable  100%     -      {revision.content.framework}"
    )


def test_a_deployment_on_machines_names_them() -> None:
    """The machine that is wanted comes first, then its fallbacks."""
    revision = revision_of(a_content(machine=("ml.c6i.large", "ml.c5.large")))
    seen = a_deployment(revisions=(ServedRevision(revision, Role.STABLE, WHOLE),))

    assert "machine   ml.c6i.large, ml.c5.large" in text.deployment(seen).splitlines()


def test_a_table_folds_only_its_last_column() -> None:
    """Columns line up; what is too wide goes on below in its own column, and a line break in a cell is kept."""
    rows = [("a", "first line\nsecond line"), ("longer", "w" * 30 + " tail")]

    assert table(("KEY", "WHAT"), rows, width=40) == (
        f"KEY     WHAT\na       first line\n        second line\nlonger  {'w' * 30}\n        tail"
    )
