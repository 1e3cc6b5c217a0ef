"""Two runs at once: who waits, what is said meanwhile, and what is planned again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlscale.cli.app import main
from mlscale.cli.console import Output, Progress
from mlscale.deployment import Deployment, Identity
from mlscale.engine.run import Event
from mlscale.state.lease import Held, acquire
from mlscale.state.store import open_store
from tests.cli.conftest import SPEC, Shell
from tests.doubles.fake_provider import FakeProvider
from tests.doubles.moved_clock import MORNING, MovedClock


class Eventful(MovedClock):
    """A clock on which something happens while somebody sleeps for the first time."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens: Callable[[], None] | None = happens

    def sleep(self, seconds: float) -> None:
        """Let it happen, and the time pass."""
        happens, self._happens = self._happens, None
        super().sleep(seconds)
        if happens:
            happens()


class Restless(FakeProvider):
    """A provider where somebody else changes something between any two looks."""

    def read(self, identity: Identity) -> Deployment | None:
        """Return what is there, and change it."""
        seen = super().read(identity)
        if seen:
            self.there[identity] = replace(seen, labels={"looks": seen.labels.get("looks", "") + "i"})
        return seen


def held(shell: Shell) -> Held:
    """Return the lease, held by another run."""
    store = open_store(str(shell.folder / ".mlscale"))
    return acquire(store, "reviews", command="mlscale deploy two.yaml", run_id="first", clock=MovedClock())


def test_who_waits_gets_in_after_the_first_and_plans_again(shell: Shell) -> None:
    """With --lease-timeout the second deploy waits, says for whom, plans against what the first has left, and works."""
    shell.write("two.bin", "two")
    shell.write("two.yaml", SPEC.replace("model.bin", "two.bin"))
    lease = held(shell)

    def first_ends() -> None:
        lease.release()
        assert main(("deploy", "two.yaml", "--output", "json"), replace(shell.world(), clock=MovedClock())) == 0
        shell.capsys.readouterr()

    shell.clock = Eventful(first_ends)

    second = shell.run("deploy", "--lease-timeout", "75s")

    assert second.code == 0, second.stderr
    assert "reviews was changed by another run; planning again" in second.stderr
    assert "- drop      drop" in second.stderr
    assert [each["command"] for each in events(shell) if each["event"] == "run_started"] == [
        "mlscale deploy --lease-timeout 75s"
    ]


def events(shell: Shell) -> list[dict[str, str]]:
    """Return the events of the last run."""
    found: list[dict[str, str]] = shell.good("events", "--output", "json").data["events"]
    return found


def test_the_holder_is_named_while_one_waits(shell: Shell) -> None:
    """A line says which run is waited for, and when the time is over the error says so, too."""
    with held(shell):
        refused = shell.run("deploy", "--lease-timeout", "5s")

    assert refused.code == 6
    assert "  … waiting for run first: mlscale deploy two.yaml on " in refused.stderr
    assert "waited 5 s" in refused.stderr


def test_the_timeout_bounds_the_waiting(shell: Shell) -> None:
    """A --timeout that is shorter than --lease-timeout ends the waiting."""
    with held(shell):
        refused = shell.run("deploy", "--lease-timeout", "75s", "--timeout", "3s")

    assert refused.code == 8
    assert refused.stderr.count("another run holds the lease: mlscale deploy two.yaml by ") == 1
    assert sum(shell.clock.slept) <= 3.0


def test_a_plan_that_never_fits_is_given_up_after_three_times(shell: Shell) -> None:
    """What changes between any two looks is planned three times, then the exit code is 10."""
    shell.good("deploy")
    restless = Restless()
    restless.there = shell.provider.there
    shell.provider = restless
    shell.write("model.bin", "two")

    refused = shell.run("deploy")

    assert refused.code == 10
    assert refused.stderr.count("planning again") == 2


def test_destroy_after_another_run_asks_for_what_is_there_now(shell: Shell) -> None:
    """A destroy that waited takes down what the run before it has left."""
    shell.good("deploy")
    shell.write("two.yaml", SPEC.replace("max: 4", "max: 8"))
    lease = held(shell)

    def first_ends() -> None:
        lease.release()
        assert main(("deploy", "two.yaml", "--output", "json"), replace(shell.world(), clock=MovedClock())) == 0
        shell.capsys.readouterr()

    shell.clock = Eventful(first_ends)

    assert shell.good("destroy", "--yes", "--lease-timeout", "75s").stdout == "Destroyed local/reviews\n"
    assert shell.provider.there == {}


def test_that_a_wait_goes_on_is_said_again(shell: Shell) -> None:
    """A beat after news is silent, each one without repeats the last line."""
    progress = Progress(Output.TEXT, name="reviews", no_color=True)
    progress(Event(MORNING, "waiting", "", "reviews", "run first: mlscale deploy on here"))
    progress.beat()
    progress.beat()
    progress.beat()

    assert shell.capsys.readouterr().err.splitlines() == [
        "  … waiting for run first: mlscale deploy on here",
        "  … waiting for run first: mlscale deploy on here (goes on)",
        "  … waiting for run first: mlscale deploy on here (goes on)",
    ]


def test_what_goes_on_is_never_a_step_that_has_ended(shell: Shell) -> None:
    """A beat names the oldest step that is under way, with the last word about it."""
    progress = Progress(Output.TEXT, name="reviews", no_color=True)
    for kind, key, text in (
        ("started", "one/prepare", ""),
        ("started", "endpoint/start", ""),
        ("progress", "one/prepare", "making an environment"),
        ("done", "endpoint/start", ""),
    ):
        progress(Event(MORNING, kind, key, key, text))  # type: ignore[arg-type]  # words of Event.kind
    progress.beat()
    shell.capsys.readouterr()

    progress.beat()

    assert shell.capsys.readouterr().err == "  … prepare   one/prepare: making an environment (goes on)\n"


def test_seconds_alone_are_no_news_in_a_log(shell: Shell) -> None:
    """A step that tells every second how long it takes fills no log; the heartbeat has its last word."""
    progress = Progress(Output.TEXT, name="reviews", no_color=True)
    for text in ("making it", "installing (1 s)", "installing (2 s)", "installing (3 s)", "checking (4 s)"):
        progress(Event(MORNING, "progress", "one/prepare", "files", text))
    progress.beat()
    progress.beat()

    assert shell.capsys.readouterr().err.splitlines() == [
        "  … prepare   files: making it",
        "  … prepare   files: installing (1 s)",
        "  … prepare   files: checking (4 s)",
        "  … prepare   files: checking (4 s) (goes on)",
    ]
