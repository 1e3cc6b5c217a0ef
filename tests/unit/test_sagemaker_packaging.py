"""What SageMaker's containers unpack, and what they do with it."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import orjson
import pytest

from mlscale.deployment import Content
from mlscale.errors import MlscaleError, UsageError
from mlscale.providers import artifact, templates
from mlscale.providers.sagemaker.image_table import packaged
from mlscale.providers.sagemaker.images import Choice, Handler, Way, choose, way_of
from mlscale.providers.sagemaker.packaging import (
    MADE_AT,
    TELL_EVERY,
    Files,
    environment_of,
    handler_of,
    key_of,
    pack,
)
from mlscale.serving.handler import load

TEMPLATES = templates.folder()
JSON = "application/json"
REQUEST = b'{"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}'
COMPLETE = """
def model_fn(model_dir): return model_dir
def input_fn(body, content_type): return body
def predict_fn(data, model): return data
def output_fn(prediction, accept): return prediction
"""


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget, after each test, the folder that a handler was loaded from."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def quietly(text: str) -> None:
    """Take a line of progress."""


def a_content(files: Files, framework: str = "sklearn", **fields: Any) -> Content:
    """Return the content that `files` are, pinned to the image that serves it."""
    digests = {
        name: artifact.digest(path) if path else None
        for name, path in (("handler", files.handler), ("requirements", files.requirements))
    }
    asked = Content(
        artifact=artifact.digest(files.model) if files.model else "",
        framework=framework,
        runtime=artifact.runtime_digest(),
        **{**digests, **fields},
    )
    found = choose(asked, handler_of(files), "us-east-1", packaged())
    assert isinstance(found, Choice), found
    return found.pinned(asked)


def an_own(files: Files) -> Content:
    """Return the content of an image of the user's own."""
    return Content(artifact=artifact.digest(files.model) if files.model else "", framework="custom", image="mine:1")


def a_model(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Return the folder `model` in `folder`, with these files."""
    for name, text in files.items():
        place = folder / "model" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / "model"


def a_file(path: Path, text: str) -> Path:
    """Return `path`, written."""
    path.write_text(text)
    return path


def packed(content: Content, files: Files, folder: Path) -> Path:
    """Return the archive of `content`, alone in a folder of its own."""
    place = folder / "packed"
    place.mkdir(exist_ok=True)
    pack(content, files, place / "model.tar.gz", quietly)
    assert [each.name for each in place.iterdir()] == ["model.tar.gz"]
    return place / "model.tar.gz"


def inside(archive: Path, *, ours: bool = False) -> dict[str, bytes]:
    """Return what is in an archive, without our serving code unless it is asked for."""
    with tarfile.open(archive, "r:gz") as opened:
        found = {member.name: file.read() for member in opened if (file := opened.extractfile(member))}
    return {name: text for name, text in found.items() if ours or not is_ours(name)}


def is_ours(name: str) -> bool:
    """Return whether a file is part of our serving code."""
    return name.startswith("code/mlscale_")


# The archive


def test_a_model_is_at_the_root_and_code_in_its_folder(tmp_path: Path) -> None:
    """The layout is SageMaker's: model files as they are, the handler and its requirements in code/."""
    files = Files(
        a_model(tmp_path, {"model.joblib": "weights", "data/words.txt": "a b"}),
        a_file(tmp_path / "mine.py", COMPLETE),
        a_file(tmp_path / "needs.txt", "pandas==2.2.3\n"),
    )

    archive = packed(a_content(files), files, tmp_path)

    assert inside(archive, ours=True) == {
        "model.joblib": b"weights",
        "data/words.txt": b"a b",
        "code/inference.py": COMPLETE.encode(),
        "code/requirements.txt": b"pandas==2.2.3\n",
    }


def test_an_archive_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Names are sorted; owners, times and modes are fixed; nothing is compressed, for zlibs differ in that."""
    model = a_model(tmp_path, {"b": "2" * 70_000, "a": "1", "ü/c": "3"})
    files = Files(model)
    (model / "a").chmod(0o600)
    os.utime(model / "b", (1, 1))

    archive = packed(an_own(files), files, tmp_path)

    with tarfile.open(archive, "r:gz") as opened:
        facts = [(each.name, each.mode, each.mtime, each.uid, each.gid, each.uname, each.gname) for each in opened]
    assert facts == [(name, 0o644, MADE_AT, 0, 0, "", "") for name in ("a", "b", "ü/c")]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == (
        "3b65e65d5d505b17bfbce3e2637de4874c60e47bc56c8ce2fc83c2176e6273b0"
    )
    assert subprocess.run(["gzip", "--test", archive], check=False).returncode == 0


@pytest.mark.parametrize("form", ["model.tar.gz", "model.tgz", "model.tar"])
def test_an_archive_is_packed_again(tmp_path: Path, form: str) -> None:
    """A folder and an archive of it give the same bytes, whatever made the archive."""
    model = a_model(tmp_path, {"model.joblib": "weights", "code/inference.py": COMPLETE})
    with tarfile.open(tmp_path / form, "w:gz" if form.endswith("gz") else "w") as archive:
        archive.add(model, ".")
    whole, unpacked = Files(tmp_path / form), Files(model)

    again = packed(a_content(whole), whole, tmp_path).read_bytes()

    assert again == packed(a_content(unpacked), unpacked, tmp_path).read_bytes()


def test_a_single_file_keeps_its_name(tmp_path: Path) -> None:
    """A model that is one file is at the root."""
    files = Files(a_file(tmp_path / "model.joblib", "weights"))

    assert inside(packed(a_content(files), files, tmp_path)) == {"model.joblib": b"weights"}


def test_the_spec_s_code_goes_before_the_model_s(tmp_path: Path) -> None:
    """A handler and requirements that came with the model make way."""
    model = a_model(
        tmp_path, {"m.joblib": "w", "code/inference.py": "old = 1", "code/requirements.txt": "old", "code/b.py": ""}
    )
    files = Files(model, a_file(tmp_path / "new.py", COMPLETE), a_file(tmp_path / "new.txt", "new\n"))

    assert inside(packed(a_content(files), files, tmp_path)) == {
        "m.joblib": b"w",
        "code/b.py": b"",
        "code/inference.py": COMPLETE.encode(),
        "code/requirements.txt": b"new\n",
    }


def test_an_own_image_gets_the_model_alone(tmp_path: Path) -> None:
    """What is in the image is its owner's; without a model there is nothing to pack."""
    files = Files(a_model(tmp_path, {"model.bin": "weights"}))

    assert inside(packed(an_own(files), files, tmp_path), ours=True) == {"model.bin": b"weights"}
    assert key_of(an_own(Files(None))) is None


@pytest.mark.parametrize(
    ("framework", "version", "line"),
    [
        ("onnx", None, "onnxruntime==1.32.0\n"),
        ("onnx", "1.30", "onnxruntime==1.30.*\n"),
        ("lightgbm", "4.6.0", "lightgbm==4.6.0\n"),
    ],
)
def test_a_framework_without_an_image_is_installed(
    tmp_path: Path, framework: str, version: str | None, line: str
) -> None:
    """One version, so that a replica that starts next year is the same."""
    files = Files(a_model(tmp_path, {"model.onnx": "weights"}))
    content = a_content(files, framework, framework_version=version)

    assert inside(packed(content, files, tmp_path))["code/requirements.txt"] == line.encode()


def test_requirements_say_all_that_is_installed(tmp_path: Path) -> None:
    """Those of the spec or of the model stand as they are; a framework that the image brings needs none."""
    brought = Files(a_model(tmp_path, {"model.onnx": "w", "code/requirements.txt": "onnxruntime==1.20.0\n"}))
    plain = Files(a_file(tmp_path / "model.joblib", "w"))

    assert (
        inside(packed(a_content(brought, "onnx"), brought, tmp_path))["code/requirements.txt"]
        == b"onnxruntime==1.20.0\n"
    )
    assert "code/requirements.txt" not in inside(packed(a_content(plain), plain, tmp_path))


def test_a_saved_model_gets_a_folder_for_its_version(tmp_path: Path) -> None:
    """TensorFlow's server looks for SavedModels in folders whose names are numbers."""
    bare = Files(
        a_model(
            tmp_path / "1",
            {"saved_model.pb": "graph", "variables/v": "w", "code/inference.py": "def handler(a, b): ..."},
        )
    )
    numbered = Files(a_model(tmp_path / "2", {"iris/3/saved_model.pb": "graph"}))

    assert inside(packed(a_content(bare, "tensorflow"), bare, tmp_path)).keys() == {
        "1/saved_model.pb",
        "1/variables/v",
        "code/inference.py",
    }
    assert inside(packed(a_content(numbered, "tensorflow"), numbered, tmp_path)).keys() == {"iris/3/saved_model.pb"}


def test_files_that_changed_after_the_plan_are_refused(tmp_path: Path) -> None:
    """What is packed is what was planned."""
    files = Files(a_model(tmp_path, {"model.joblib": "weights"}))
    content = a_content(files)
    (tmp_path / "model" / "model.joblib").write_text("others")

    with pytest.raises(UsageError) as caught:
        pack(content, files, tmp_path / "model.tar.gz", quietly)

    assert caught.value.what == "the files changed after the plan was made"


def test_requirements_that_name_a_file_are_refused(tmp_path: Path) -> None:
    """The container does not have that file."""
    files = Files(a_file(tmp_path / "model.joblib", "w"), requirements=a_file(tmp_path / "needs.txt", "-r more.txt\n"))

    with pytest.raises(UsageError) as caught:
        pack(a_content(files), files, tmp_path / "model.tar.gz", quietly)

    assert caught.value.why == "-r more.txt"


def test_serving_code_of_another_mlscale_is_not_packed(tmp_path: Path) -> None:
    """A revision keeps the code that it was made with."""
    files = Files(a_file(tmp_path / "model.joblib", "w"))

    with pytest.raises(UsageError) as caught:
        pack(replace(a_content(files), runtime="0" * 16), files, tmp_path / "model.tar.gz", quietly)

    assert caught.value.what == "the serving code of this revision is not here"


def test_progress_is_told_and_may_end_the_work(tmp_path: Path) -> None:
    """What it raises comes out, and nothing is left: no half archive, nothing unpacked."""
    model = a_model(tmp_path, {"model.bin": b"0" * (TELL_EVERY + 1)})
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.add(model, ".")
    files, place = Files(tmp_path / "model.tar"), tmp_path / "place"
    place.mkdir()
    told: list[str] = []

    def stopped(text: str) -> None:
        told.append(text)
        if text.startswith("packing"):
            raise MlscaleError("stopped")

    with pytest.raises(MlscaleError):
        pack(an_own(files), files, place / "model.tar.gz", stopped)

    assert told == ["unpacking model.tar", "packing the model (64 of 64 MiB)"]
    assert list(place.iterdir()) == []


def test_a_large_model_is_not_held_in_memory(tmp_path: Path) -> None:
    """Memory stays below 4 MiB for a model of 96."""
    files = Files(a_model(tmp_path, {"a.bin": bytes(48 * 2**20), "b.bin": bytes(48 * 2**20)}))
    content = an_own(files)
    tracemalloc.start()

    packed(content, files, tmp_path)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


# Its key


def test_a_key_is_known_without_packing(tmp_path: Path) -> None:
    """It is that of the content's parts, and of nothing that the archive does not have."""
    files = Files(a_model(tmp_path, {"model.onnx": "w"}))
    content = a_content(files, "onnx")
    key = key_of(content)
    same = (
        replace(content, environment={"A": "b"}),
        replace(content, machine=("ml.c6i.large",)),
        replace(content, image=str(content.image).replace("us-east-1", "eu-west-1")),
    )
    others = (
        replace(content, artifact="0" * 16),
        replace(content, handler="0" * 16),
        replace(content, requirements="0" * 16),
        replace(content, runtime="0" * 16),
        replace(content, framework="lightgbm"),
        replace(content, framework_version="1.30"),
        replace(content, runtime=None),
        replace(content, runtime=None, image="mine:1"),
    )

    assert {key_of(each) for each in same} == {key}
    assert len({key, *map(key_of, others)}) == 1 + len(others)
    assert len(str(key)) == 16


def test_a_key_outlives_this_mlscale() -> None:
    """It is pinned: were it another, each upgrade would upload every model again and replace what serves it."""
    kept = Content(
        "a" * 16, "onnx", handler="b" * 16, requirements="c" * 16, runtime="d" * 16, framework_version="1.30"
    )

    assert key_of(kept) == "f67f427dd00721eb"


# The container's variables


@pytest.mark.parametrize(
    ("framework", "handler", "names"),
    [
        ("sklearn", "", {"PROGRAM": "mlscale_entry.py", "SUBMIT_DIRECTORY": "/opt/ml/model/code"}),
        ("sklearn", COMPLETE, {"PROGRAM": "inference.py", "SUBMIT_DIRECTORY": "/opt/ml/model/code"}),
        ("huggingface", "", {}),
        ("tensorflow", "", {}),
    ],
)
def test_a_container_is_told_what_to_run(tmp_path: Path, framework: str, handler: str, names: dict[str, str]) -> None:
    """Our entry, the user's handler, or nothing where the container finds out by itself."""
    files = Files(a_file(tmp_path / "model.pb", "w"), a_file(tmp_path / "h.py", handler) if handler else None)

    assert environment_of(a_content(files, framework), "eu-west-1") == {
        f"SAGEMAKER_{name}": value
        for name, value in {**names, "CONTAINER_LOG_LEVEL": "20", "REGION": "eu-west-1"}.items()
    }


def test_an_own_image_is_told_nothing() -> None:
    """It may not know SageMaker's toolkits."""
    assert environment_of(an_own(Files(None)), "eu-west-1") == {}


# What a handler is


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (COMPLETE, Handler.COMPLETE),
        ("def model_fn(d): ...\ndef transform_fn(m, b, c, a): ...", Handler.COMPLETE),
        ("from mine import model_fn, transform_fn", Handler.COMPLETE),
        ("try:\n from a import model_fn\nexcept ImportError:\n pass\ntransform_fn = print", Handler.COMPLETE),
        ("def model_fn(d): ...", Handler.PARTIAL),
        (COMPLETE + "def transform_fn(m, b, c, a): ...", Handler.PARTIAL),
        (COMPLETE.replace("def predict_fn", "async def predict_fn"), Handler.PARTIAL),
        (COMPLETE.replace("(model_dir)", "(model_dir, context)"), Handler.PARTIAL),
        (COMPLETE.replace("(model_dir)", "(*all)"), Handler.PARTIAL),
        ("x = 1", Handler.PARTIAL),
        ("class Predictor(Base): ...", Handler.PREDICTOR),
        ("class Mine:\n def load(self, path): ...\n def predict(self, rows): ...", Handler.PREDICTOR),
        ("class Mine:\n def load(self, path): ...\n" + COMPLETE, Handler.COMPLETE),
        ("def handler(data, context): ...", Handler.TENSORFLOW),
        ("def input_handler(d, c): ...\ndef output_handler(d, c): ...", Handler.TENSORFLOW),
        ("def input_handler(d, c): ...", Handler.PARTIAL),
    ],
)
def test_a_handler_is_read_not_run(tmp_path: Path, code: str, kind: Handler) -> None:
    """Complete are SageMaker's functions, all of them, as every one of its containers calls them."""
    assert handler_of(Files(None, a_file(tmp_path / "inference.py", code))) is kind


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"model.bin": "w"}, Handler.NONE),
        ({"code/inference.py": COMPLETE}, Handler.COMPLETE),
        ({"inference.py": COMPLETE}, Handler.PARTIAL),
        ({"inference.py": "class Predictor: ..."}, Handler.PREDICTOR),
        ({"inference.py": "class Predictor: ...", "code/inference.py": COMPLETE}, Handler.COMPLETE),
    ],
)
def test_a_handler_may_come_with_the_model(tmp_path: Path, files: Mapping[str, str], kind: Handler) -> None:
    """In code/, where SageMaker's containers look; beside the model only our server finds it."""
    model = a_model(tmp_path, files)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(model, ".")

    assert (handler_of(Files(model)), handler_of(Files(tmp_path / "model.tar.gz"))) == (kind, kind)


def test_a_handler_that_is_no_python_is_refused(tmp_path: Path) -> None:
    """The error says where."""
    with pytest.raises(UsageError) as caught:
        handler_of(Files(None, a_file(tmp_path / "inference.py", "def model_fn(:")))

    assert (caught.value.what, "inference.py" in caught.value.why) == ("the handler is no Python file", True)


# What the containers run


def an_sklearn(_: Path) -> Files:
    """Return the template's model."""
    return Files(TEMPLATES / "sklearn" / "model")


def an_onnx(_: Path) -> Files:
    """Return the template's model."""
    return Files(TEMPLATES / "onnx" / "model")


def a_custom(_: Path) -> Files:
    """Return the template's model and handler."""
    return Files(TEMPLATES / "custom" / "model", TEMPLATES / "custom" / "inference.py")


def an_xgboost(folder: Path) -> Files:
    """Return a small model."""
    import xgboost

    rows = np.random.default_rng(1).random((60, 4), dtype=np.float32)
    model = xgboost.train({"max_depth": 2}, xgboost.DMatrix(rows, rows.sum(axis=1)), 3)
    (folder / "x").mkdir()
    model.save_model(folder / "x" / "model.ubj")
    return Files(folder / "x")


def a_lightgbm(folder: Path) -> Files:
    """Return a small model."""
    import lightgbm

    rows = np.random.default_rng(1).random((60, 4))
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1}
    lightgbm.train(settings, lightgbm.Dataset(rows, rows.sum(axis=1)), 3).save_model(folder / "model.txt")
    return Files(folder / "model.txt")


def a_predictor(folder: Path) -> Files:
    """Return a model with a class of the user's, as Vertex has it."""
    code = """
from pathlib import Path
class Predictor:
    def load(self, path): self.weights = Path(path, "weights").read_text()
    async def predict(self, rows): return [self.weights] * len(rows)
"""
    return Files(a_model(folder, {"weights": "w"}), a_file(folder / "mine.py", code))


DRIVER = """
import importlib.machinery, json, sys
model, code, module, found = sys.argv[1], sys.argv[2], sys.argv[3], []
if "without orjson" in sys.argv:
    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name != "orjson":
                return None
            there = importlib.machinery.PathFinder.find_spec(name, [each for each in sys.path if "fallback" in each])
            if there is None:
                raise ImportError(name)
            return there
    sys.meta_path.insert(0, Hidden())
sys.path.insert(0, code)
entry = __import__(module)
loaded = entry.model_fn(model)
for body, kind, accept in json.load(sys.stdin):
    if hasattr(entry, "transform_fn"):
        try:
            answer = entry.transform_fn(loaded, body, kind, accept)
        except ValueError as error:
            answer = [str(error), "error"]
    else:
        answer = entry.output_fn(entry.predict_fn(entry.input_fn(body, kind), loaded), accept)
    text, kind = answer
    found.append([text if isinstance(text, str) else text.decode(), kind])
import orjson
sys.stderr.write(orjson.__file__)
json.dump(found, sys.__stdout__)
"""
"""What a container does: it loads the program of SAGEMAKER_PROGRAM, then calls it for each request with text."""


def driven(archive: Path, content: Content, requests: list[tuple[str, str, str]], *flags: str) -> tuple[Any, str]:
    """Return what the program in an archive answers, in a process of its own, and whose orjson it took."""
    unpacked = archive.parent / "opt"
    with tarfile.open(archive, "r:gz") as opened:
        opened.extractall(unpacked, filter="data")
    program = environment_of(content, "us-east-1")["SAGEMAKER_PROGRAM"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", DRIVER, unpacked, unpacked / "code", Path(program).stem, *flags],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
        cwd=unpacked,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()[-1]


def served_here(content: Content, files: Files, folder: Path, requests: list[tuple[str, str, str]]) -> Any:
    """Return what mlscale's own serving answers."""
    model = folder / "here"
    assert files.model is not None
    artifact.copy(files.model, model)
    if files.handler:
        (model / "code").mkdir()
        (model / "code" / "inference.py").write_bytes(files.handler.read_bytes())
    handler = load(model, content.framework, None).handler
    answers = [asyncio.run(handler.answer(body.encode(), kind, accept)) for body, kind, accept in requests]
    return [[body.decode(), kind] for body, kind in answers]


Maker = Callable[[Path], Files]
MODELS: list[tuple[str, Maker]] = [
    ("sklearn", an_sklearn),
    ("onnx", an_onnx),
    ("xgboost", an_xgboost),
    ("lightgbm", a_lightgbm),
    ("custom", a_custom),
    ("custom", a_predictor),
]


@pytest.mark.parametrize("flag", ["with orjson", "without orjson"])
@pytest.mark.parametrize(("framework", "maker"), MODELS, ids=[maker.__name__ for _, maker in MODELS])
def test_a_container_answers_as_our_server_does(tmp_path: Path, framework: str, maker: Maker, flag: str) -> None:
    """The same bytes and type for the same request, with an image's own packages alone as well."""
    files = maker(tmp_path)
    content = a_content(files, framework)
    requests = [(REQUEST.decode(), JSON, "*/*"), (REQUEST.decode(), JSON, JSON)]

    answers, module = driven(packed(content, files, tmp_path), content, requests, flag)

    assert way_of(content) is Way.HOST
    assert answers == served_here(content, files, tmp_path, requests)
    assert ("mlscale_runtime/fallback" in module) == (flag == "without orjson")


def test_a_container_runs_a_whole_handler_by_itself(tmp_path: Path) -> None:
    """None of ours is in the archive of a framework with its own container."""
    files = a_custom(tmp_path)
    content = a_content(files, "sklearn")
    requests = [(REQUEST.decode(), JSON, JSON)]
    archive = packed(content, files, tmp_path)

    answers, _ = driven(archive, content, requests)

    assert way_of(content) is Way.PREBUILT
    assert answers == served_here(content, files, tmp_path, requests)
    assert not [name for name in inside(archive, ours=True) if is_ours(name)]


def test_a_bad_request_is_told_apart(tmp_path: Path) -> None:
    """Its reason comes out for the container's toolkit to answer with; the next request is served."""
    files = an_sklearn(tmp_path)
    content = a_content(files)
    requests = [("{", JSON, JSON), (REQUEST.decode(), JSON, JSON), ("5.1,3.5,1.4,0.2\n", "text/csv", "text/csv")]

    answers, _ = driven(packed(content, files, tmp_path), content, requests)

    assert answers[0][0].startswith("the body is not JSON")
    assert answers[1:] == [['{"predictions":[0,2]}', JSON], ["0\n", "text/csv"]]


def said_by(archive: Path, code: str) -> list[str]:
    """Return the lines that `code` prints beside the entry in an archive, with `model` the folder it is unpacked to."""
    unpacked = archive.parent / "opt"
    with tarfile.open(archive, "r:gz") as opened:
        opened.extractall(unpacked, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nmodel = {str(unpacked)!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=unpacked / "code",
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("mlscale: ")]


def test_a_worker_has_one_event_loop(tmp_path: Path) -> None:
    """A container that loads a model several times may do so in greenlets, which can't have a loop each."""
    files = an_sklearn(tmp_path)
    code = f"""
import threading, mlscale_entry as entry
from concurrent.futures import ThreadPoolExecutor
loaded = [entry.model_fn(model) for _ in range(3)]
def served(each): return entry.transform_fn(each, {REQUEST!r}, "application/json", None)[0]
with ThreadPoolExecutor(8) as clients: print(set(clients.map(served, loaded * 8)))
print(sum(each.name == "mlscale" for each in threading.enumerate()))
"""

    assert said_by(packed(a_content(files), files, tmp_path), code) == ["{b'{\"predictions\":[0,2]}'}", "1"]


REFUSED = {
    "flask": """
import flask
with flask.Flask("container").test_request_context():
    answer = entry.transform_fn(loaded, "{", "application/json", "*/*")
print(answer.status_code, answer.mimetype, answer.get_data(as_text=True)[:20])
""",
    "toolkit": """
import types
class BaseInferenceToolkitError(Exception): pass
for name in ("sagemaker_inference", "sagemaker_inference.errors"): sys.modules[name] = types.ModuleType(name)
sys.modules["sagemaker_inference.errors"].BaseInferenceToolkitError = BaseInferenceToolkitError
try:
    entry.transform_fn(loaded, "{", "application/json", "*/*")
except BaseInferenceToolkitError as error:
    print(error.args[0], "text/plain", error.args[1][:20])
""",
}


@pytest.mark.parametrize("container", REFUSED)
def test_a_bad_request_is_the_client_s_fault(tmp_path: Path, container: str) -> None:
    """It gets status 400 as the container gives it: by Flask, or by an exception of SageMaker's toolkit."""
    files = an_sklearn(tmp_path)
    code = f"import mlscale_entry as entry\nloaded = entry.model_fn(model)\n{REFUSED[container]}"

    assert said_by(packed(a_content(files), files, tmp_path), code) == ["400 text/plain the body is not JSON"]


def test_hugging_face_s_toolkit_gets_the_body_alone(tmp_path: Path) -> None:
    """It takes no type with it."""
    files = a_predictor(tmp_path)
    code = f"""
import mlscale_entry as entry
sys.modules["sagemaker_huggingface_inference_toolkit"] = sys
print(entry.transform_fn(entry.model_fn(model), {REQUEST!r}, "application/json", "application/json"))
"""

    assert said_by(packed(a_content(files, "huggingface"), files, tmp_path), code) == ['b\'{"predictions":["w"]}\'']


def test_the_code_runs_on_the_oldest_python_of_an_image() -> None:
    """What an image with Python 3.10 imports uses nothing that came after it."""
    here = artifact.runtime_files()
    files = [*TEMPLATES.joinpath("sagemaker-container").glob("*.py"), *(each for each in here if each.name in IMPORTED)]
    later = {"StrEnum", "UTC", "Self", "tomllib", "ExceptionGroup", "TaskGroup", "Runner", "assert_never", "Never"}

    used = {
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text(), feature_version=(3, 10)))
        for name in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None))
    }

    assert len(files) == 2 + len(IMPORTED)
    assert used & later == set()


IMPORTED = {"__init__.py", "calling.py", "codec.py", "frameworks.py", "handler.py"}
"""Of the serving code, what the entry imports."""


def test_nothing_else_of_ours_is_imported(tmp_path: Path) -> None:
    """So that the rest of the serving code may need what images don't have."""
    files = an_sklearn(tmp_path)
    code = """
import pathlib, mlscale_entry
mlscale_entry.model_fn(model)
print(sorted(pathlib.Path(each.__file__).name for name, each in sys.modules.items() if name.startswith("mlscale.serv")))
"""

    assert said_by(packed(a_content(files), files, tmp_path), code) == [str(sorted(IMPORTED))]


# JSON without orjson


def the_fallback() -> ModuleType:
    """Return the module that stands in for orjson."""
    spec = importlib.util.spec_from_file_location("fallback", TEMPLATES / "sagemaker-container" / "orjson.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 1.5, -0.0, 1e22, "é\n\u2028", True, {"a": (1, [])}],
        [float("nan"), float("inf")],
        np.array([[0.1, 0.2]], dtype=np.float32),
        np.float32(0.1),
        np.array([np.nan, 1.0]),
        np.array([True, False]),
        {"a": np.int64(3)},
    ],
    ids=str,
)
def test_json_without_orjson_is_the_same(value: Any) -> None:
    """Text for text: null for what is no number, and 0.1 for a short 0.1."""
    fallback = the_fallback()

    assert fallback.dumps(value, option=fallback.OPT_SERIALIZE_NUMPY) == orjson.dumps(
        value, option=orjson.OPT_SERIALIZE_NUMPY
    )


def test_json_keys_that_are_numbers_need_leave() -> None:
    """As with orjson."""
    fallback, value = the_fallback(), {1: 2, None: 3, 1.5: np.float32(4)}

    with pytest.raises(TypeError):
        fallback.dumps(value)
    both = [each.OPT_NON_STR_KEYS | each.OPT_SERIALIZE_NUMPY for each in (fallback, orjson)]
    assert fallback.dumps(value, option=both[0]) == orjson.dumps(value, option=both[1])


@pytest.mark.parametrize("body", [b"{", b"", b"[NaN]", b"[Infinity]", b'"\xff"', b"\xfe\xff"])
def test_what_is_no_json_is_none_without_orjson(body: bytes) -> None:
    """The same exception, so the same answer."""
    for module in (the_fallback(), orjson):
        with pytest.raises(module.JSONDecodeError):
            module.loads(body)
