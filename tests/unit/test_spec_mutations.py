"""Specs that went wrong by themselves: each is a spec or a list of placed problems, never anything else."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mlscale.errors import SpecInvalid
from mlscale.spec.model import Spec
from mlscale.spec.parse import parse

ROOT = Path(__file__).parent.parent.parent
FULL = ROOT / "tests" / "golden" / "full_spec.yaml"
CLOUD = ROOT / "tests" / "golden" / "sagemaker.yaml"
VERTEX = ROOT / "tests" / "golden" / "vertex.yaml"
TEXTS = [path.read_text("utf-8") for path in (FULL, CLOUD, VERTEX, *sorted(ROOT.glob("templates/*/spec.yaml")))]
MUTANTS = 2_000
VARIABLES = {"BUCKET": "s3://acme", "N": "4", "ODD": "\x1b[31m"}
BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 10**30, 1.5, float("inf"), float("nan"), "", " ", "x", "é" * 70, "a" * 5000,
    [], {}, [[]], [{}], [None], {"a": None}, {"min": 3}, {1: 2}, {None: None},
    "10%", "101 %", "10m", "999999d", "-5s", "0s", "* * * * *", "@daily", "H H * * *", "0 0 31 2 *", "*/0 * * * *",
    "${N}", "${ODD}", "${MISSING}", "${MISSING:-5}", "${", "$${N}", "../..", "/", "\0", "\ud83d", "env:A",
    "cpu", "concurrency", "realtime", "async", "canary", "local", "sagemaker", "Europe/Berlin", "../../etc/passwd",
    "0.0.0.0", "::1", "localhost", "2024-01-01", "1_000", "0x1f", "1e3", "12:30:45", "yes", "~", "<<", "=",
    "serverless", "gpu", "queue_depth", "ml.g5.xlarge", "us-east-1", "123456789012", "500ms", "50Gi", "1Gi", "1.5Gi",
    "s3://acme/a", "s3://", "arn:aws:iam::123456789012:role/a", "arn:aws:sns:us-east-1:123456789012:a", "subnet-1",
    "vertex", "us-central1", "acme-ml", "gs://acme/a", "g2-standard-8", "nvidia-l4", "spot", "bq://acme-ml.a.b",
    "projects/acme-ml/notificationChannels/1", "projects/1/global/networks/a", "a@acme-ml.iam.gserviceaccount.com",
]  # fmt: skip
ODD_TEXTS = [
    "\t", "\0", "\r", "\x85", "\u2028", "\ufeff", "\ud7ff", "\x7f", ":", ": ", "- ", "? ", "#", "'", '"', "{", "}", "[",
    "]", ",", "&a ", "*a", "!!str ", "!x ", "|\n", ">\n", "%YAML 1.1\n", "---\n", "...\n", "<<: *a\n", "${", "}", "$$",
    "\\", "`", "@", "💥", "\n\n", "  ",
]  # fmt: skip
OVERRIDES = [
    "endpoint.replicas=3", "endpoint.replicas={min: 2}", "name=other", "labels.team=a", "labels[0]=a", "model=",
    "endpoint.autoscaling.target[0].value=7", "endpoint.autoscaling.target[9].value=7", "version=2", "=", "a", "a.b=1",
    "environments.prod=1", "endpoint.kind=async", "sagemaker.role=", "endpoint.machine=ml.a",
    "local.port=${N}", "local.port=[",
    "rollout.steps=[1%]", "rollout.analysis.false_alarm=5%", "rollout.bake_time=5m", "model.source=\ud800",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """What `parse` is asked."""

    text: str | bytes
    env: str | None
    overrides: tuple[str, ...]


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """Yield mutants of the specs that are known to be valid, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311, no secret depends on it
    for _ in range(count):
        text = chance.choice(TEXTS)
        for _ in range(chance.choice((1, 1, 1, 1, 1, 1, 2, 4))):
            text = chance.choice((_structural, _structural, _textual, _lines))(text, chance)
        yield Mutant(
            _bytes(text, chance) if chance.random() < 0.1 else text,
            chance.choice((None,) * 9 + ("prod", "small", "other", "async", "serverless", "gpu", "canary")),
            tuple(chance.choices(OVERRIDES, k=chance.choice((0,) * 8 + (1, 2)))),
        )


def _structural(text: str, chance: random.Random) -> str:
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    places = list(_places(tree))
    if not places:
        return text
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[_textual(str(key), chance)] = holder.pop(key)
        case 2:
            other, other_key = chance.choice(places)
            holder[key] = other[other_key]
        case 3:
            holder[key] = [holder[key]]
        case 4:
            holder[key] = {chance.choice(["min", "a", "metric"]): holder[key]}
        case 5 if isinstance(holder, dict):
            holder[key] = holder.pop(key)
        case 6 if type(holder[key]) is int:
            holder[key] += chance.choice((-1, 1, 2))
        case _:
            holder[key] = chance.choice(ODD_VALUES)
    try:
        return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    except (yaml.YAMLError, RecursionError, ValueError):
        return text


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if depth < 8 and isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key], depth + 1)


def _textual(text: str, chance: random.Random) -> str:
    at = chance.randint(0, len(text))
    until = min(len(text), at + chance.choice((0, 0, 1, 1, 2, 10, 100)))
    new = chance.choice(ODD_TEXTS) if chance.random() < 0.7 else text[at:until] * chance.randint(0, 3)
    return text[:at] + new + text[until:]


def _lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    act: Callable[[], object] = chance.choice(
        (
            lambda: lines.insert(one, lines[other]),
            lambda: lines.pop(one),
            lambda: lines.__setitem__(one, "  " + lines[one]),
            lambda: lines.__setitem__(one, lines[one].lstrip()),
            lambda: lines.__setitem__(one, lines[other]),
        )
    )
    act()
    return "\n".join(lines)


def _bytes(text: str, chance: random.Random) -> bytes:
    raw = bytearray(text.encode(chance.choice(("utf-8", "utf-8", "utf-8", "utf-16", "cp1252")), "replace"))
    for _ in range(chance.choice((0, 1, 3))):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    return bytes(raw[: chance.randrange(len(raw))] if chance.random() < 0.1 else raw)


def outcome(mutant: Mutant) -> str:
    """Return valid or invalid; anything that is wrong about the answer raises."""
    try:
        spec = parse(mutant.text, "spec.yaml", variables=VARIABLES, env=mutant.env, overrides=mutant.overrides)
    except SpecInvalid as error:
        check_places(error, mutant)
        return "invalid"
    assert isinstance(spec, Spec)
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    return "valid"


def check_places(error: SpecInvalid, mutant: Mutant) -> None:
    """Check that there is a problem, and that each says what and where: inside the file, or in an override."""
    text = mutant.text.decode("utf-8", "replace") if isinstance(mutant.text, bytes) else mutant.text
    lines = BREAK.split(text.removeprefix("\ufeff"))
    assert error.problems
    assert len(set(error.problems)) == len(error.problems)
    for problem in error.problems:
        assert problem.what
        assert "\n" not in str(problem)
        if problem.line == 0:
            assert problem.file.startswith("--set ")
            assert any(
                each.startswith(problem.file.removeprefix("--set ")[:10].strip("'")) for each in mutant.overrides
            )
        else:
            assert problem.file == "spec.yaml"
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


def test_mutated_specs_are_specs_or_placed_problems() -> None:
    """2,000 mutants: each is a valid spec or has problems with places inside the file; no other exception."""
    outcomes = Counter(outcome(mutant) for mutant in mutants(seed=1, count=MUTANTS))

    assert outcomes.total() == MUTANTS
    assert min(outcomes["valid"], outcomes["invalid"]) >= 200


def test_the_mutated_specs_use_every_key() -> None:
    """The mutator starts from specs that have every key of the language, so that a new key is mutated too."""
    asked = [
        *((FULL, env) for env in (None, "canary", "linear", "shadow")),
        *((CLOUD, env) for env in (None, "canary", "serverless", "async")),
    ]
    asked += [(VERTEX, env) for env in (None, "gpu", "private")]
    specs = [parse(path.read_bytes(), path.name, variables=VARIABLES, env=env) for path, env in asked]

    assert sorted(set(_keys(Spec)) - {key for spec in specs for key in _used(spec)}) == []


def _keys(section: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the path of every key that may stand in `section`."""
    for name, field in section.model_fields.items():
        yield f"{path}{name}"
        for inner in _sections(field.annotation):
            yield from _keys(inner, f"{path}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _used(section: BaseModel, path: str = "") -> Iterator[str]:
    """Yield the path of every key that stands in `section`."""
    yield from (f"{path}{name}" for name in section.model_fields_set)
    for name, value in section:
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, BaseModel):
                yield from _used(each, f"{path}{name}.")


@settings(deadline=None, max_examples=100)
@given(st.text() | st.binary())
def test_any_text_is_a_spec_or_placed_problems(text: str | bytes) -> None:
    """Text that never was a spec is refused with a place as well."""
    assert outcome(Mutant(text, None, ())) in ("valid", "invalid")
