"""What a rollout's gates are asked and what they may answer, by real commands and real servers on loopback."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from socket import socket
from typing import Any

import pytest

from mlscale.deployment import WHOLE, revision_of
from mlscale.engine.gates import Answer, Gates, Hook, facts
from mlscale.engine.session import Session
from mlscale.errors import UsageError
from mlscale.spec.rollout import Gates as SpecGates
from mlscale.state.rollouts import Judged, Moment, Phase, Rollout
from tests.builders import a_content
from tests.doubles.moto_sns import serving
from tests.doubles.moved_clock import MORNING
from tests.engine.conftest import SPEC, Engine

OLD, NEW = (revision_of(a_content(each)) for each in ("one", "two"))
TOPIC = "arn:aws:sns:eu-west-1:123456789012:rollouts"
OPENS = Answer(opens=True)


@dataclass(slots=True)
class Server:
    """A web hook on loopback: what came, and the statuses that are answered in turn, the last of them for good."""

    address: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    said: str = ""
    came: list[dict[str, Any]] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    redirect: str = ""
    held: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.types.append(handler.headers["Content-Type"])
        self.came.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        self.held.wait(10)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        handler.send_response(status)
        if self.redirect:
            handler.send_header("Location", self.redirect)
        handler.end_headers()
        handler.wfile.write(self.said.encode())


@pytest.fixture
def server() -> Iterator[Server]:
    """A web hook that opens."""
    with a_server() as made:
        yield made


@contextmanager
def a_server() -> Iterator[Server]:
    """Serve a web hook."""
    made = Server()
    made.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                made.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.held.set()
        listening.shutdown()
        listening.server_close()
        thread.join()


def gates(engine: Engine, rollout: str, variables: dict[str, str] | None = None) -> Gates:
    """Return the gates of a spec with `rollout` in it."""
    return Gates(a_session(engine, rollout, variables))


def a_session(engine: Engine, rollout: str, variables: dict[str, str] | None = None) -> Session:
    """Return the session of a spec with `rollout` in it."""
    engine.write(spec=SPEC.replace("{keep_revisions: 2}", f"{{strategy: canary, {rollout}}}"))
    session = engine.session()
    return replace(session, world=replace(session.world, variables=variables or {}))


def a_rollout(what: str = "shifted", **fields: Any) -> Rollout:
    """Return a canary at its first share, which comes next to the second."""
    known: dict[str, Any] = {
        "id": "r1",
        "strategy": "canary",
        "phase": Phase.PROGRESSING,
        "stable": OLD,
        "candidate": NEW,
        "shares": (1000, 5000),
        "share": 1000,
        "began_at": MORNING,
        "driven_at": MORNING,
        "history": (Moment(at=MORNING, what="began", share=0), Moment(at=MORNING, what=what, share=1000)),
    }
    return Rollout(**{**known, **fields})


def test_the_hooks_are_the_keys_of_the_spec() -> None:
    """Each list of the spec is asked or told somewhere, and no other is looked for."""
    assert {each.value for each in Hook} == set(SpecGates.model_fields)


def test_where_nobody_is_named_every_gate_opens(engine: Engine) -> None:
    """A spec without gates goes on as before, and tells nobody."""
    made = gates(engine, "interval: 5m")

    assert [made.ask(hook, a_rollout()) for hook in Hook] == [OPENS] * 8
    assert made.tell(a_rollout()) == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("true", OPENS),
        ("echo fine; echo fine >&2", OPENS),
        ("exit 75", Answer(opens=False, waits=True, why="exit code 75")),
        ("echo no; echo on Friday >&2; exit 3", Answer(opens=False, why="exit code 3: no\non Friday")),
        ("false | cat", Answer(opens=False, why="exit code 1")),
        ("false; true", Answer(opens=False, why="exit code 1")),
        ("kill -9 $$", Answer(opens=False, why="ended by signal 9")),
        (r"printf 'a\nb\n\n\033[2Jc\nd\ne'; exit 1", Answer(opens=False, why="exit code 1: [2Jc\nd\ne")),
    ],
    ids=["opens", "says something", "not yet", "refuses", "fails in a pipe", "fails early", "killed", "says much"],
)
def test_a_command_answers_by_its_exit_code(engine: Engine, command: str, answer: Answer) -> None:
    """0 opens, 75 is not yet, all else refuses, with the last of what it said; one that fails early does not open."""
    made = gates(engine, f"gates: {{before_step: [{{command: {json.dumps(command)}}}]}}")

    found = made.ask(Hook.BEFORE_STEP, a_rollout())

    where = f"rollout.gates.before_step[0] ({command}): "
    assert found == (answer if answer.opens else replace(answer, why=f"{where}{answer.why}"))


def test_a_command_gets_the_facts(engine: Engine) -> None:
    """As JSON on stdin and as variables, beside the spec; nothing of them becomes a part of the command."""
    write = "cat > told.json; env | grep ^MLSCALE_ | sort > told.txt"
    session = a_session(engine, f"gates: {{before_step: [{{command: {json.dumps(write)}}}]}}")
    verdicts = (Judged(metric="error_rate", outcome="pass", n=500),)
    rollout = a_rollout(outcome="pass", verdicts=verdicts, step=1)

    assert Gates(session).ask(Hook.BEFORE_STEP, rollout) == OPENS

    told = json.loads((engine.folder / "told.json").read_text())
    assert told == facts(session, rollout, Hook.BEFORE_STEP)
    assert told["verdicts"][0]["n"] == 500
    assert (engine.folder / "told.txt").read_text().splitlines() == [
        f"MLSCALE_BASELINE={OLD.id}",
        f"MLSCALE_CANDIDATE={NEW.id}",
        "MLSCALE_DEPLOYMENT=reviews",
        "MLSCALE_EVENT=shifted",
        "MLSCALE_HOOK=before_step",
        "MLSCALE_NEXT_SHARE=50",
        "MLSCALE_ROLLOUT=r1",
        "MLSCALE_SHARE=10",
        "MLSCALE_VERDICT=pass",
    ]


@pytest.mark.parametrize(
    ("share", "step", "phase", "following"),
    [
        (0, 0, Phase.PROGRESSING, 10.0),
        (1000, 0, Phase.PROGRESSING, 50.0),
        (5000, 1, Phase.PROGRESSING, 100.0),
        (WHOLE, 1, Phase.PROMOTED, 100.0),
        (0, 1, Phase.ROLLED_BACK, 0.0),
    ],
)
def test_the_facts_say_which_share_comes_next(
    engine: Engine, share: int, step: int, phase: Phase, following: float
) -> None:
    """The first step, the one after, all traffic after the last; once it has ended nothing more comes."""
    session = a_session(engine, "interval: 5m")

    told = facts(session, a_rollout(share=share, step=step, phase=phase), Hook.BEFORE_STEP)

    assert (told["share_percent"], told["next_share_percent"]) == (share / 100, following)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(engine: Engine) -> None:
    """It refuses, with what it said until then; neither it nor a child goes on."""
    command = "exec 3> alive; trap '' TERM; sleep 60 & echo waiting; wait"
    made = gates(engine, f"gates: {{during: [{{command: {json.dumps(command)}, timeout: 0.5s}}]}}")

    with alive(engine.folder / "alive") as have_ended:
        found = made.ask(Hook.DURING, a_rollout())

        assert have_ended()
    why = f"rollout.gates.during[0] ({command}): it took longer than 0.5 s, and was ended: waiting"
    assert found == Answer(opens=False, why=why)


def test_a_command_is_not_waited_for_when_something_more_urgent_comes(engine: Engine) -> None:
    """An abort is obeyed at once: the command is ended, and the gate is asked anew later, if ever."""
    made = gates(
        engine, "gates: {during: [{command: 'exec 3> alive; touch begun; sleep 60'}, {command: touch second}]}"
    )

    with alive(engine.folder / "alive") as have_ended:
        found = made.ask(Hook.DURING, a_rollout(), urgent=(engine.folder / "begun").exists)

        assert have_ended()
    assert found == Answer(opens=False, waits=True, why="something more urgent came")
    assert not (engine.folder / "second").exists()


@contextmanager
def alive(pipe: Path) -> Iterator[Callable[[], bool]]:
    """Give what waits until all that have `pipe` open for writing have ended, and says whether they did."""
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield lambda: bool(select([reading], [], [], 10)[0]) and os.read(reading, 1) == b""
    finally:
        os.close(reading)


def test_a_background_child_does_not_hold_the_answer_back(engine: Engine) -> None:
    """What a command leaves behind has its output open; the answer is there when the command has ended."""
    made = gates(engine, "gates: {before: [{command: 'sleep 5 & echo $! > child', timeout: 4s}]}")

    found = made.ask(Hook.BEFORE, a_rollout())

    os.kill(int((engine.folder / "child").read_text()), 9)
    assert found == OPENS


def test_all_gates_of_a_hook_must_open(engine: Engine, server: Server) -> None:
    """They are asked in order, and nobody after the first that does not open."""
    server.statuses = [503]
    listed = f"[{{command: touch first}}, {{url: '{server.address}/ask'}}, {{command: touch third}}]"
    made = gates(engine, f"gates: {{before: {listed}}}")

    found = made.ask(Hook.BEFORE, a_rollout())

    why = f"rollout.gates.before[1] ({server.address}): it answered 503"
    assert found == Answer(opens=False, waits=True, why=why)
    assert [(engine.folder / each).exists() for each in ("first", "third")] == [True, False]


@pytest.mark.parametrize(
    ("status", "opens", "waits"),
    [
        (200, True, False),
        (204, True, False),
        (301, False, False),
        (307, False, False),
        (400, False, False),
        (403, False, False),
        (409, False, True),
        (425, False, True),
        (429, False, True),
        (500, False, False),
        (503, False, True),
    ],
)
def test_an_address_answers_by_its_status(
    engine: Engine, server: Server, status: int, *, opens: bool, waits: bool
) -> None:
    """It opens, says not yet, or refuses, and gets the facts as JSON each time; a redirect is not followed."""
    server.statuses = [status]
    server.redirect = f"{server.address}/elsewhere"
    session = a_session(engine, f"gates: {{before_promotion: [{{url: '{server.address}/ask?token=s3cret'}}]}}")

    found = Gates(session).ask(Hook.BEFORE_PROMOTION, a_rollout())

    assert (found.opens, found.waits) == (opens, waits)
    assert server.came == [facts(session, a_rollout(), Hook.BEFORE_PROMOTION)]
    assert server.types == ["application/json"]


def test_a_refusal_says_what_the_address_said(engine: Engine, server: Server) -> None:
    """The first lines of it, without what moves a terminal's cursor; never the address's path, which may be secret."""
    server.statuses, server.said = [403], "closed\n\x1b[31muntil Monday\n"
    made = gates(engine, f"gates: {{before: [{{url: '{server.address}/s3cret'}}]}}")

    found = made.ask(Hook.BEFORE, a_rollout())

    why = f"rollout.gates.before[0] ({server.address}): it answered 403: closed\n[31muntil Monday"
    assert found == Answer(opens=False, why=why)


def test_an_address_that_cannot_be_reached_is_tried_again_and_refuses(engine: Engine) -> None:
    """Three times, a second apart; the reason is told, and nothing of the path."""
    with socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        made = gates(engine, f"gates: {{before: [{{url: '{address}/s3cret'}}]}}")

        found = made.ask(Hook.BEFORE, a_rollout())

    assert (found.opens, found.waits) == (False, False)
    assert found.why.startswith(f"rollout.gates.before[0] ({address}): it can't be reached: ")
    assert found.why.endswith("Connection refused, 3 times")
    assert "s3cret" not in found.why
    assert engine.clock.slept == [1.0, 1.0]


def test_an_address_that_does_not_answer_refuses(engine: Engine, server: Server) -> None:
    """After its time, tried as often as one that can't be reached."""
    server.held.clear()
    made = gates(engine, f"gates: {{before: [{{url: '{server.address}', timeout: 0.3s}}]}}")

    found = made.ask(Hook.BEFORE, a_rollout())

    why = f"rollout.gates.before[0] ({server.address}): there was no answer in 0.3 s, 3 times"
    assert found == Answer(opens=False, why=why)
    assert len(server.came) == 3


def test_an_address_is_not_waited_for_when_something_more_urgent_comes(engine: Engine, server: Server) -> None:
    """An abort is obeyed at once."""
    server.held.clear()
    made = gates(engine, f"gates: {{before: [{{url: '{server.address}'}}]}}")

    found = made.ask(Hook.BEFORE, a_rollout(), urgent=lambda: bool(server.came))

    assert found == Answer(opens=False, waits=True, why="something more urgent came")


def test_a_secret_address_comes_from_the_environment(engine: Engine, server: Server) -> None:
    """The spec names its variable, and so does what is told of it."""
    server.statuses = [403]
    made = gates(engine, "gates: {before: [{url: env:ASK}]}", {"ASK": f"{server.address}/s3cret"})

    made.require()
    found = made.ask(Hook.BEFORE, a_rollout())

    assert found == Answer(opens=False, why="rollout.gates.before[0] (env:ASK): it answered 403")
    assert len(server.came) == 1


@pytest.mark.parametrize(
    ("variables", "why"),
    [({}, "ASK is not set"), ({"ASK": "s3cret"}, "the variable ASK has no address of http or https")],
)
@pytest.mark.parametrize(
    ("named", "path"),
    [("gates: {before: [{url: env:ASK}]}", "rollout.gates.before[0].url"), ("notify: [env:ASK]", "rollout.notify[0]")],
)
def test_an_address_that_is_not_there_is_said_before_anything_is_done(
    engine: Engine, variables: dict[str, str], why: str, named: str, path: str
) -> None:
    """A rollout that could not ask or tell anybody does not begin; what the variable has is not shown."""
    with pytest.raises(UsageError) as caught:
        gates(engine, named, variables).require()

    assert (caught.value.why, caught.value.hint) == (f"{path}: {why}", "export ASK=https://…")


@pytest.mark.parametrize(
    ("what", "hooks"),
    [
        ("began", ["on_change"]),
        ("abort", ["on_change"]),
        ("promoted", ["after_promotion", "on_change"]),
        ("rolled_back", ["on_rollback", "on_change"]),
    ],
)
def test_each_moment_is_told_to_its_hooks(engine: Engine, what: str, hooks: Sequence[str]) -> None:
    """Every one to on_change, an end to the hook of its kind before."""
    write = "{command: 'echo $MLSCALE_HOOK $MLSCALE_EVENT >> told'}"
    made = gates(engine, f"gates: {{after_promotion: [{write}], on_rollback: [{write}], on_change: [{write}]}}")

    assert made.tell(a_rollout(what)) == []

    assert (engine.folder / "told").read_text().splitlines() == [f"{hook} {what}" for hook in hooks]


def test_who_can_not_be_told_is_a_warning(engine: Engine, server: Server) -> None:
    """The others are told all the same."""
    server.statuses, server.said = [404, 200], "no_team"
    gone = "gates: {on_rollback: [{command: exit 9}], on_change: [{command: touch told}]}"
    made = gates(engine, f"{gone}, notify: ['{server.address}/a', '{server.address}/b', env:NONE]")

    missed = made.tell(a_rollout("rolled_back"))

    assert missed == [
        "rollout.gates.on_rollback[0] (exit 9): exit code 9",
        f"rollout.notify[0] ({server.address}): it answered 404: no_team",
        "rollout.notify[2] (env:NONE): NONE is not set",
    ]
    assert (engine.folder / "told").exists()
    assert len(server.came) == 2


def test_nobody_is_waited_for_when_something_more_urgent_comes(engine: Engine) -> None:
    """What is told may be late or missing; an abort is not."""
    made = gates(engine, "gates: {on_change: [{command: sleep 60}]}")

    assert made.tell(a_rollout("shifted"), urgent=lambda: True) == [
        "not everybody was told of 'shifted': something more urgent came"
    ]


@pytest.mark.parametrize(
    ("what", "strategy", "text"),
    [
        ("began", "canary", f"reviews: a canary of revision {NEW.id} begins, beside revision {OLD.id} (why)"),
        ("shifted", "canary", f"reviews: revision {NEW.id} gets 10% of the requests (why)"),
        ("shifted", "shadow", f"reviews: revision {NEW.id} gets copies of 10% of the requests (why)"),
        ("pause", "linear", f"reviews: the rollout of revision {NEW.id} is paused at 10% (why)"),
        ("resume", "linear", f"reviews: the rollout of revision {NEW.id} goes on at 10% (why)"),
        ("held", "canary", f"reviews: the rollout of revision {NEW.id} holds at 10% without a verdict (why)"),
        ("promoted", "canary", f"reviews: revision {NEW.id} is promoted: it has all traffic (why)"),
        ("rolled_back", "canary", f"reviews: revision {NEW.id} is taken back: revision {OLD.id} has all traffic (why)"),
        ("replaced", "canary", f"reviews: revision {NEW.id} is left for another one (why)"),
    ],
)
def test_a_notification_says_what_happened(engine: Engine, server: Server, what: str, strategy: str, text: str) -> None:
    """In one sentence, where Slack and its like look for it, with the facts beside it."""
    session = a_session(engine, f"notify: ['{server.address}']")
    rollout = a_rollout(strategy=strategy, history=(Moment(at=MORNING, what=what, share=1000, text="why"),))

    assert Gates(session).tell(rollout) == []

    assert server.came == [{"text": text, **facts(session, rollout)}]


@pytest.mark.parametrize("what", ["abort", "promote", "not promoted"])
def test_what_only_leads_to_something_is_not_notified(engine: Engine, server: Server, what: str) -> None:
    """A wish is followed by what came of it."""
    assert gates(engine, f"notify: ['{server.address}']").tell(a_rollout(what)) == []

    assert server.came == []


def test_a_topic_is_told_in_its_own_region(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence is the subject, which mail shows, and the document the message."""
    session = a_session(engine, f"notify: ['{TOPIC}', '{TOPIC}-gone']")
    made = Gates(session)
    made.require()
    with serving(TOPIC, monkeypatch) as sent:
        missed = made.tell(a_rollout())

        assert [each.partition("): ")[0] for each in missed] == [f"rollout.notify[1] ({TOPIC}-gone"]
        assert "NotFound" in missed[0]
        text = f"reviews: revision {NEW.id} gets 10% of the requests"
        assert [(subject, json.loads(message)) for subject, message in sent()] == [
            (text, {"text": text, **facts(session, a_rollout())})
        ]
