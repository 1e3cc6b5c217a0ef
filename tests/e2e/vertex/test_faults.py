"""Something goes wrong with each kind of call to Google: the command converges, or says clearly why it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.sagemaker.test_faults import COMMANDS, FOR_EVER, Place, hit, last, told_and_gone_on_from
from tests.e2e.vertex.project import Project

PLANS: Mapping[str, tuple[str, ...]] = {
    "deploy": ("plan",),
    "update": ("plan", "--env", "bigger"),
    "destroy": ("plan", "--destroy"),
}
ABOUT = ("leases", "journal", "revisions", "uploads")
"""What an object of the workspace can be about."""

OLD_FILES = frozenset({"storage.DeleteObject", "storage.ListObjects", "ModelService.DeleteModel"})
"""What deletes, at the end of an update, what it has left over."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where a command can be hit, and what it leaves when it is not.

    `lasting` are the places for what does not pass: of the reads those that a first deploy has, too, are left to that.
    """

    places: Sequence[Place]
    lasting: Sequence[Place]
    wanted: Mapping[str, Sequence[str]]


def prepared(project: Project, name: str) -> Prepared:
    """Return where a command can be hit; the project is saved as it is before."""
    elsewhere: set[tuple[str, str]] = set()
    if name != "deploy":
        project.good("deploy")
        elsewhere = {(place.operation, place.about) for place in _places(project.journal())}
        project.serve_two()
    if name == "update":
        project.new_version(3)
    project.double.post("save")
    project.double.delete("journal")
    project.good(*COMMANDS[name])
    places = tuple(_places(project.journal()))
    assert project.good(*PLANS[name]).stdout.startswith("No changes")
    lasting = [each for each in places if each.changes or (each.operation, each.about) not in elsewhere]
    return Prepared(places, lasting, project.table())


def _places(journal: Sequence[Mapping[str, Any]]) -> Iterator[Place]:
    counted: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for number, call in enumerate(journal, 1):
        operation = f"{call['service']}.{call['operation']}"
        counted[operation] = counted.get(operation, 0) + 1
        place = f"{call['request'].get('object', '')} {call['request'].get('prefix', '')}"
        about = next((word for word in ABOUT if f"/{word}" in place), "")
        if (operation, about) not in seen:
            seen.add((operation, about))
            yield Place(operation, about, counted[operation], number, call["mutating"] and not call["workspace"])


@pytest.mark.parametrize("kind", ["throttle", "500", "drop", "drop_after_commit"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_passes_is_got_over(project: Project, name: str, kind: str) -> None:
    """Each kind of call is once throttled, fails, or loses its connection: exit code 0, and all is there."""
    command = prepared(project, name)
    faults = [
        place.fault("503" if kind == "500" and number % 2 else kind, times=1)
        for number, place in enumerate(command.places)
    ]

    ended = hit(project, name, *faults)

    assert (ended.code, project.unlike(command.wanted)) == (0, []), last(ended)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_call_that_hangs_is_given_up_and_made_again(project: Project, name: str) -> None:
    """Of each kind that changes something, after it had its effect; and a look: exit code 0, and all is there."""
    command = prepared(project, name)
    hanging = [place for place in command.places if place.changes]
    faults = [place.fault("hang_after_commit", times=1, seconds=1.5) for place in hanging]
    look = {"operation": "GetEndpoint$", "kind": "hang", "nth": 2, "seconds": 1.5}

    ended = hit(project, name, *faults, look, MLSCALE_CALL_TIMEOUT="1s")

    assert (ended.code, project.unlike(command.wanted)) == (0, []), last(ended)


@pytest.mark.parametrize("name", COMMANDS)
def test_credentials_that_expire_stop_it_and_new_ones_go_on(project: Project, name: str) -> None:
    """From each kind of change on they are refused: exit code 9 says so; the same command with good ones converges.

    From the first call on, too, and from the first look into the workspace.
    """
    command = prepared(project, name)
    look = next(place for place in command.places if place.operation == "storage.ListObjects")
    wrong: list[str] = []
    for place in (command.places[0], look, *(place for place in command.places if place.changes)):
        fault = {"operation": ".", "kind": "expired", "nth": place.number, "times": FOR_EVER}
        wrong += told_and_gone_on_from(project, name, place, hit(project, name, fault), {9}, command.wanted)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_credentials_may_not_do_stops_it(project: Project, name: str) -> None:
    """Each second kind of call is refused for ever: exit code 9, or 4 where what served is back; then it converges.

    What deletes old files at the end stops nothing.
    """
    command = prepared(project, name)
    codes = {9} if name != "update" else {4, 9}
    wrong: list[str] = []
    for place in command.lasting[::2]:
        ended = hit(project, name, place.fault("access_denied", times=FOR_EVER))
        allowed = codes | {0} if is_about_old_files(name, place) else codes
        wrong += told_and_gone_on_from(project, name, place, ended, allowed, command.wanted)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_does_not_pass_ends_at_our_timeout(project: Project, name: str) -> None:
    """Each kind of call is throttled or fails for ever: exit code 8, and later the same command converges.

    Or 4 where what served is back; what deletes old files at the end stops nothing here, either.
    """
    command = prepared(project, name)
    wrong: list[str] = []
    for number, place in enumerate(command.lasting):
        fault = place.fault(("throttle", "500", "503")[number % 3], times=FOR_EVER)
        ended = hit(project, name, fault, more=("--timeout", "1s"))
        allowed = {4, 8} if name == "update" and not place.changes else {8}
        if is_about_old_files(name, place):
            allowed = {0, *allowed}
        wrong += told_and_gone_on_from(project, name, place, ended, allowed, command.wanted)
    assert not wrong, "\n".join(wrong)


def is_about_old_files(name: str, place: Place) -> bool:
    """Return whether a call is one for what an update has left over, once it is done."""
    return name != "destroy" and (place.about == "revisions" or (name == "update" and place.operation in OLD_FILES))


@pytest.mark.parametrize("kind", ["throttle", "drop"])
@pytest.mark.parametrize("operation", ["EndpointService.GetEndpoint", "storage.ListObjects"])
def test_without_an_answer_for_long_nothing_is_begun(project: Project, operation: str, kind: str) -> None:
    """What is there can't be read: exit code 8 after some tries, in words, and no change."""
    project.double.post("save")

    ended = hit(project, "deploy", {"operation": f"^{re.escape(operation)}$", "kind": kind, "times": FOR_EVER})

    assert (ended.code, last(ended).partition("\n")[0]) in [
        (8, "error: Google Cloud asks to slow down"),
        (8, "error: Google Cloud does not answer"),
        (8, "error: the workspace can't be used"),
        (8, "error: the workspace can't be reached"),
    ]
    assert [each["operation"] for each in project.journal() if each["mutating"] and not each["workspace"]] == []
