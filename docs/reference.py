"""Writes the reference pages from the code; what is said there is said nowhere else.

python docs/reference.py            write the pages
python docs/reference.py --check    exit 1, and say which, when a page is not what the code gives
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer._click import Command, Context
from typer.core import TyperGroup

from mlscale import errors
from mlscale.cli.app import COMMANDS, app
from mlscale.providers.local.records import ObservedReplica, ObservedRevision
from mlscale.providers.local.supervisor import _gauges
from mlscale.serving import gpus
from mlscale.serving.gateway import Counters, Gateway
from mlscale.serving.server import Metrics
from mlscale.spec.schema import json_schema

PAGES = Path(__file__).parent / "reference"
SOURCE = Path(errors.__file__).parent
MADE = "<!-- Made by docs/reference.py from the code: change it there. -->"
A_VARIABLE = "#/$defs/Variable"
"""What any value may be instead, which is said once."""
WIDTH = 78
"""Help leaves two of the 80 columns that a terminal has at least."""

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "Credentials of an `s3://` workspace; without it boto3 looks for them where it is installed.",
    "AWS_DEFAULT_REGION": "Region of an `s3://` workspace, where `AWS_REGION` is not set.",
    "AWS_ENDPOINT_URL": "Another address for AWS, as boto3 has it: a private stack, or a test server.",
    "AWS_ENDPOINT_URL_S3": "The same for S3 alone; it goes before `AWS_ENDPOINT_URL`.",
    "AWS_REGION": "Region of an `s3://` workspace; `us-east-1` if nothing says another.",
    "CI": "Any value: never ask, as with `--no-input`.",
    "FORCE_COLOR": "Any value: color even where the output is no terminal.",
    "MLSCALE_CALL_TIMEOUT": "Seconds that a call of a cloud may take, from its beginning to the answer; 20.",
    "MLSCALE_GOOGLE_API_ENDPOINT": "Another address for what surrounds Vertex AI: monitoring, logging and the project.",
    "MLSCALE_VERTEX_API_ENDPOINT": "Another address for Vertex AI; `http://host:port` is plaintext and anonymous.",
    "NO_COLOR": "Any value: no color, as with `--no-color`.",
    "STORAGE_EMULATOR_HOST": "Another address for `gs://`, without credentials: an emulator with the XML API.",
    "TERM": "`dumb`: no color, and no line that is written over.",
    "XDG_CONFIG_HOME": "Folder of `mlscale/config.yaml`, the user's own defaults; `~/.config` if not set.",
}
"""What each variable that no option has means."""

VARIABLE = re.compile(
    r"(?:AIP|AWS|MLSCALE|OMP|ONNX|SAGEMAKER|STORAGE|TORCH|XDG)_[A-Z0-9_]*[A-Z0-9]|CI|FORCE_COLOR|NO_COLOR|TERM"
)
"""What a text in the code looks like that names an environment variable."""

CONTAINER_VARIABLES = {
    "AIP_HEALTH_ROUTE": "Vertex's health route, besides `/ping`.",
    "AIP_HTTP_PORT": "Vertex's port.",
    "AIP_PREDICT_ROUTE": "Vertex's prediction route, besides `/invocations`.",
    "AIP_STORAGE_URI": "Vertex's model folder: a path, or a `gs://` place that is fetched first.",
    "MLSCALE_BATCHING": "`0`: each request is a call of the model of its own.",
    "MLSCALE_DRAIN_TIMEOUT": "Seconds that open requests get after SIGTERM; 30.",
    "MLSCALE_FRAMEWORK": "Who loads the model; found out from its files if not set.",
    "MLSCALE_HANDLER": "The user's code, a path inside the model folder.",
    "MLSCALE_HEALTH_PATH": "Another health route, besides `/ping`.",
    "MLSCALE_HOST": "Address to listen on; all of them if not set.",
    "MLSCALE_IMAGE_MODEL": "Folder of the model that an image brings; served where no other is given.",
    "MLSCALE_MAX_BODY_BYTES": "Largest request body; 25 MiB.",
    "MLSCALE_MODEL_DIR": "Folder of the model; `/opt/ml/model` if nothing says another.",
    "MLSCALE_PARENT_PID": "The server ends when this process does.",
    "MLSCALE_PORT": "Port to listen on; 8080 if nothing says another.",
    "OMP_NUM_THREADS": "Threads of an ONNX model; 1.",
    "ONNX_OUTPUTS": "Names of the outputs of an ONNX model that are wanted, separated by commas.",
    "ONNX_PROVIDERS": "ONNX Runtime's execution providers that are wanted: `tensorrt,cuda,cpu`; CUDA where it is.",
    "SAGEMAKER_BIND_TO_PORT": "SageMaker's port.",
    "STORAGE_EMULATOR_HOST": "Another address for Cloud Storage, without credentials: an emulator.",
    "TORCH_DEVICE": "The device of a TorchScript: `cpu`, `cuda`, `cuda:1`, `mps`; a GPU where PyTorch sees one.",
}

COMMAND_VARIABLES = {
    "MLSCALE_BASELINE": "The revision that serves beside the new one.",
    "MLSCALE_CANDIDATE": "The new revision.",
    "MLSCALE_DEPLOYMENT": "Name of the deployment.",
    "MLSCALE_END": "A metric: end of the minute that is to be counted, in ISO 8601; it is not in it.",
    "MLSCALE_EVENT": "A gate: what happened last in the rollout, like `shifted`.",
    "MLSCALE_HOOK": "A gate: where it is asked or told, like `before_step`.",
    "MLSCALE_METRIC": "A metric: its name.",
    "MLSCALE_NEXT_SHARE": "A gate: the share of the new revision that comes next, in percent without the sign.",
    "MLSCALE_ROLLOUT": "A gate: id of the rollout.",
    "MLSCALE_SHARE": "A gate: the share that the new revision has, in percent without the sign.",
    "MLSCALE_START": "A metric: start of that minute.",
    "MLSCALE_VERDICT": "A gate: what the worst metric shows: pass, inconclusive, no_data, error or fail.",
}
"""What commands of `rollout` find in their environment."""

METRICS = {
    "mlscale_requests_total": "Requests answered, by revision and HTTP status; revision `none` if no replica answered.",
    "mlscale_request_duration_seconds": "Time from a request's arrival to its answer, waiting and repeats included.",
    "mlscale_requests_in_flight": "Requests that a replica has now.",
    "mlscale_replicas_wanted": "Replicas that autoscaling wants.",
    "mlscale_replicas": "Replicas by health.",
    "model_requests_total": "Requests answered, by HTTP status.",
    "model_request_duration_seconds": "Time that a request took in the server, batching included.",
    "model_requests_in_flight": "Requests that are open now.",
    "model_batches_total": "Calls of the model.",
    "model_rows_total": "Rows that were in those calls.",
    "process_cpu_seconds_total": "Processor time of the replica.",
    "model_gpu_memory_used_bytes": "Memory in use on each GPU that NVML tells of, by anybody.",
    "model_gpu_utilization_ratio": "Share of the last moments in which a GPU computed, 0 to 1.",
}


def cli() -> str:
    """Return the page of all commands: each one's help, as the terminal shows it."""
    group = typer.main.get_command(app)
    context = Context(group, info_name="mlscale", **group.context_settings)
    lines = ["# Command line", "", MADE, "", *_fenced("mlscale --help", group, context)]
    for title, names in COMMANDS.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += _command(name, _found(group, context, name), context)
    return "\n".join(lines) + "\n"


def _found(group: Command, context: Context, name: str) -> Command:
    command = group.get_command(context, name) if isinstance(group, TyperGroup) else None
    if command is None:
        raise LookupError(f"there is no command {name}")
    return command


def _command(name: str, command: Command, parent: Context) -> Iterator[str]:
    context = Context(command, info_name=name, parent=parent)
    yield from ("", f"### {name}", "", *_fenced(f"{context.command_path} --help", command, context))
    if isinstance(command, TyperGroup):
        for each in command.list_commands(context):
            found = _found(command, context, each)
            inner = Context(found, info_name=each, parent=context)
            yield from ("", *_fenced(f"{inner.command_path} --help", found, inner))


def _fenced(words: str, command: Command, context: Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = WIDTH
    yield from ("```text", f"$ {words}")
    yield from (line.rstrip() for line in command.get_help(context).strip().splitlines())
    yield "```"


def spec() -> str:
    """Return the page of the spec: a table for each of its sections."""
    schema = json_schema()
    lines = [
        "# The spec",
        "",
        MADE,
        "",
        "What a spec may say, key by key; a key that is not here is refused. The same as JSON Schema, for editors and",
        "other tools: [spec.schema.json](spec.schema.json), which `mlscale schema` prints.",
        "Any value may also be `${NAME}` or `${NAME:-default}`, which is filled from the environment.",
        "",
        *_section("The whole file", schema),
    ]
    for paths, section in _sections(schema):
        lines += ["", *_section(f"`{paths[0]}`", section, also=paths[1:])]
    return "\n".join(lines) + "\n"


def _sections(schema: Mapping[str, Any]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """Yield each mapping below the top once, with the paths where it may stand, in the order of the file."""
    paths: dict[str, list[str]] = {}

    def below(path: str, section: Mapping[str, Any]) -> None:
        for key, value in section.get("properties", {}).items():
            for found, mark in _referred(value):
                target = schema["$defs"][found]
                if "properties" in target:
                    inner = f"{path}{key}{mark}"
                    paths.setdefault(found, []).append(inner)
                    below(f"{inner}.", target)

    below("", schema)
    return ((each, schema["$defs"][found]) for found, each in paths.items())


def _referred(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of the sections that a key's value may be, with `[]` where it is a list of them."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], ""
    for each in value.get("anyOf", ()):
        yield from _referred(each)
    if isinstance(value.get("items"), Mapping):
        yield from ((name, "[]") for name, _ in _referred(value["items"]))


def _section(title: str, section: Mapping[str, Any], also: Sequence[str] = ()) -> Iterator[str]:
    yield from (f"## {title}", "")
    if also:
        yield from (f"The same stands at {', '.join(f'`{each}`' for each in also)}.", "")
    if section.get("description"):
        yield from (section["description"], "")
    yield from ("| key | value | if left out | meaning |", "|---|---|---|---|")
    required = set(section.get("required", ()))
    for key, value in section["properties"].items():
        default = "**required**" if key in required else _default(value)
        yield f"| `{key}` | {_kind(value)} | {default} | {_meaning(value)} |"


def _meaning(value: Mapping[str, Any]) -> str:
    """Return a key's description; pydantic leaves out one that is the same as its section's."""
    found = value.get("description") or json_schema()["$defs"][value["$ref"].rpartition("/")[2]]["description"]
    return str(found)


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ({}, []) or isinstance(default, dict):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _kind(value: Mapping[str, Any]) -> str:
    """Return what a value may be, in words."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "anyOf" in value:
        given = (each for each in value["anyOf"] if each.get("type") != "null" and each.get("$ref") != A_VARIABLE)
        kinds = [_kind(each) for each in given]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in value:
        target = json_schema()["$defs"][value["$ref"].rpartition("/")[2]]
        return _kind(target) if "enum" in target else "mapping"
    match value.get("type"):
        case "array":
            return f"list of {_kind(value['items'])}s"
        case "object" | ["object", "null"]:
            inner = value.get("additionalProperties")
            return f"mapping of names to {_kind(inner)}s" if isinstance(inner, Mapping) else "mapping"
        case "string":
            return "text"
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number":
            return _range(value)
        case other:
            return str(other)


def _range(value: Mapping[str, Any]) -> str:
    word = {"integer": "whole number", "number": "number"}[value["type"]]
    bounds = [f"{value[key]:g}" for key in ("minimum", "maximum") if key in value]
    return f"{word}, {' to '.join(bounds)}" if bounds else word


def exit_codes() -> str:
    """Return the page of exit codes: what happened, and the `cause` that JSON has for it."""
    rows = [
        (0, "", "Done, or nothing to do"),
        (3, "", "Changes are pending: `plan --detailed-exitcode` only"),
        (
            errors.OUT_OF_TIME,
            "that of code 1",
            "A service was busy or out of reach for as long as mlscale tries: later the same command may work",
        ),
    ]
    rows += [(each.exit_code, f"`{each.cause}`", _said(each)) for each in _errors(errors.MlscaleError)]
    lines = [
        "# Exit codes",
        "",
        MADE,
        "",
        "The exit code is the outcome. The cause is in the JSON of an error, which `--output json` writes to stderr:",
        '`{"schema_version": 1, "error": {"what": ..., "why": ..., "hint": ..., "cause": ..., "exit_code": ...}}`.',
        "",
        "| code | `cause` | what happened |",
        "|---|---|---|",
        *(f"| {code} | {cause} | {said} |" for code, cause, said in sorted(rows, key=lambda row: row[0])),
    ]
    return "\n".join(lines) + "\n"


def _said(kind: type[errors.MlscaleError]) -> str:
    if kind is errors.MlscaleError:
        return "It failed in another way"
    return (inspect.getdoc(kind) or "").partition("\n")[0].rstrip(".")


def _errors(kind: type[errors.MlscaleError]) -> Iterator[type[errors.MlscaleError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _errors(each)


def metrics() -> str:
    """Return the page of metrics: what the gateway and a replica expose at `/metrics`."""
    gateway = Gateway("reviews")
    counters = gateway.counters["rev"] = Counters()
    counters.count(200, 0.1)
    replica = ObservedReplica(name="r", pid=1, port=1, health="healthy", restarts=0, detail="")
    gateway.gauges = _gauges((ObservedRevision(id="rev", share=1, wanted=1, failures=0, replicas=(replica,)),))
    served = Metrics()
    served.count(200, 0.1)
    lines = [
        "# Metrics",
        "",
        MADE,
        "",
        "In Prometheus's text format. `status` prints the address; the gateway counts every request, whichever replica",
        "answered it.",
    ]
    replica_text = served.exposition() + gpus.exposition([gpus.Reading(0, 1, 0.5)])
    for title, text in (("Gateway: `GET /metrics`", gateway.exposition()), ("Replica", replica_text)):
        lines += ["", f"## {title}", "", "| name | type | labels | meaning |", "|---|---|---|---|"]
        lines += list(_metric_rows(text))
    return "\n".join(lines) + "\n"


def _metric_rows(text: str) -> Iterator[str]:
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        sample = re.search(rf"^{name}(?:_bucket)?\{{(.*)\}} ", text, re.MULTILINE)
        labels = [each for each in re.findall(r'(\w+)="', sample[1]) if each != "le"] if sample else []
        yield f"| `{name}` | {kind} | {', '.join(f'`{each}`' for each in labels)} | {METRICS[name]} |"


def environment() -> str:
    """Return the page of environment variables.

    Raises:
        LookupError: the code reads one that nobody has described, or does not read one that is described.
    """
    options = dict(_option_variables())
    files = set(SOURCE.rglob("*.py"))
    serving = {each for each in files if "serving" in each.relative_to(SOURCE).parts}
    commands = {each for each in (SOURCE / "engine" / name for name in ("own_metrics.py", "gates.py")) if each.exists()}
    # What the supervisor gives its replicas is named outside of serving, and read inside.
    given = CONTAINER_VARIABLES.keys() - VARIABLES.keys()
    _same("VARIABLES", _variables_read(*files - serving - commands) - options.keys() - given, set(VARIABLES))
    _same("CONTAINER_VARIABLES", _variables_read(*serving), set(CONTAINER_VARIABLES))
    _same("COMMAND_VARIABLES", _variables_read(*commands), set(COMMAND_VARIABLES))
    lines = ["# Environment variables", "", MADE, "", "## In place of options", ""]
    lines += ["An option on the command line goes before its variable.", ""]
    lines += ["| variable | option | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | `{option}` | {text} |" for name, (option, text) in sorted(options.items())]
    lines += ["", "## Others that the command line reads", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(VARIABLES.items())]
    lines += ["", "## Of the model server", ""]
    lines += [
        "They come from the supervisor here, and from a cloud in its containers. A spec can't set those that begin with"
    ]
    lines += ["AIP_, MLSCALE_ or SAGEMAKER_; the others it sets in `model.environment`.", ""]
    lines += ["| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(CONTAINER_VARIABLES.items())]
    lines += [
        "",
        "## Given to commands",
        "",
        "Those of `rollout.analysis.custom` and `rollout.gates` in a spec find these:",
        "",
    ]
    lines += ["| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(COMMAND_VARIABLES.items())]
    return "\n".join(lines) + "\n"


def _option_variables() -> Iterator[tuple[str, tuple[str, str]]]:
    group = typer.main.get_command(app)
    context = Context(group, info_name="mlscale")
    for names in COMMANDS.values():
        for name in names:
            for parameter in _found(group, context, name).params:
                variable = getattr(parameter, "envvar", None)
                if isinstance(variable, str):
                    yield variable, (parameter.opts[0], getattr(parameter, "help", "") or "")


def _variables_read(*files: Path) -> set[str]:
    """Return the names of environment variables among the texts in `files`."""
    trees = (ast.parse(file.read_text()) for file in files)
    texts = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and VARIABLE.fullmatch(text)}


def _same(where: str, code: set[str], here: set[str]) -> None:
    if code != here:
        raise LookupError(
            f"{where} in docs/reference.py: describe {sorted(code - here)}, leave out {sorted(here - code)}"
        )


def pages() -> Mapping[str, str]:
    """Return the text of every generated file by its name under `docs/reference/`."""
    return {
        "cli.md": cli(),
        "spec.md": spec(),
        "spec.schema.json": json.dumps(json_schema(), indent=1) + "\n",
        "exit-codes.md": exit_codes(),
        "environment.md": environment(),
        "metrics.md": metrics(),
    }


def stale(made: Mapping[str, str]) -> list[str]:
    """Return the names of files that are not as `made`."""
    return [name for name, text in made.items() if not (PAGES / name).is_file() or (PAGES / name).read_text() != text]


def main() -> int:
    """Write the pages, or with `--check` say which are not what the code gives."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not current")
    check = parser.parse_args().check
    made = pages()
    old = stale(made)
    if check:
        sys.stderr.write("".join(f"docs/reference/{name} is not what the code gives\n" for name in old))
        return int(bool(old))
    PAGES.mkdir(exist_ok=True)
    for name in old:
        (PAGES / name).write_text(made[name])
        sys.stdout.write(f"wrote docs/reference/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
