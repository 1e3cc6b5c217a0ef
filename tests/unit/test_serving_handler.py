"""Models of every kind as something that answers."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlscale.serving.codec import BadRequestError
from mlscale.serving.frameworks import LoadError
from mlscale.serving.handler import Loaded, load

JSON = "application/json"
ALL_ENDINGS = ".onnx, .joblib, .pkl, .pickle, .ubj, .json, .xgb, .txt, .pt, .pth"
ROWS = [[0.0, 0.0], [4.0, 4.0]]


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler's folder comes before all others on Python's path: take it off after."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def answer(loaded: Loaded, body: Any, content_type: str = JSON, accept: str = "") -> Any:
    """Return what the handler makes of one request, decoded if it is JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    text, kind = asyncio.run(loaded.handler.answer(raw, content_type, accept))
    return json.loads(text) if kind == JSON else (text, kind)


def npy(rows: Any) -> bytes:
    """Return rows as npy."""
    out = io.BytesIO()
    np.save(out, np.asarray(rows, dtype=float))
    return out.getvalue()


def a_classifier() -> LogisticRegression:
    """Return a model that tells small numbers from large ones."""
    return LogisticRegression().fit([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0], [4.0, 4.0]], [0, 0, 1, 1])


def an_onnx_model(path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Write an ONNX model of a few nodes."""
    graph = helper.make_graph(nodes, "tests", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def tensor(name: str, kind: int, *shape: int | str) -> Any:
    """Return an input or output of an ONNX model."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def row_sums(path: Path, rows: int | str = "rows") -> None:
    """Write an ONNX model that adds up each row."""
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=helper.make_tensor("a", TensorProto.INT64, [1], [1])),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    ]
    an_onnx_model(path, nodes, [tensor("x", TensorProto.FLOAT, rows, 2)], [tensor("sum", TensorProto.FLOAT, rows)])


class TestFrameworks:
    """Each framework's own files."""

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            ({"instances": ROWS, "parameters": {"any": 1}}, JSON),
            (b"0,0\n4,4\n", "text/csv"),
            (npy(ROWS), "application/x-npy"),
            (ROWS, JSON),
        ],
    )
    def test_scikit_learn_answers_the_same_in_every_format(self, tmp_path: Path, body: Any, content_type: str) -> None:
        """Wrapped, bare, CSV and npy give the same predictions."""
        joblib.dump(a_classifier(), tmp_path / "model.joblib")

        found = answer(load(tmp_path, "sklearn", None), body, content_type)

        assert found == ({"predictions": [0, 1]} if isinstance(body, dict) else [0, 1])

    def test_scikit_learn_gets_the_columns_that_it_was_fitted_with(self, tmp_path: Path) -> None:
        """Objects in any order of fields, and lists in the model's, reach a pipeline that picks columns by name."""
        frame = pd.DataFrame({"color": ["red", "blue", "red", "blue"], "size": [1.0, 2.0, 1.0, 2.0]})
        encode = make_column_transformer((OneHotEncoder(), ["color"]), remainder="passthrough")
        joblib.dump(make_pipeline(encode, LogisticRegression()).fit(frame, [0, 1, 0, 1]), tmp_path / "model.joblib")
        loaded = load(tmp_path, "sklearn", None)

        assert answer(loaded, [{"size": 1.0, "color": "red"}, {"color": "blue", "size": 2.0}]) == [0, 1]
        assert answer(loaded, b"red,1\nblue,2\n", "text/csv") == [0, 1]
        with pytest.raises(BadRequestError, match="a row has no size"):
            answer(loaded, [{"color": "red"}])
        with pytest.raises(BadRequestError, match="a row has the columns color, size"):
            answer(loaded, [["red", 1.0, 2.0]])

    def test_a_model_without_column_names_takes_no_objects(self, tmp_path: Path) -> None:
        """Fields without an order mean nothing to it."""
        joblib.dump(a_classifier(), tmp_path / "model.joblib")

        with pytest.raises(BadRequestError, match="this model has no column names: send rows as lists"):
            answer(load(tmp_path, "sklearn", None), [{"a": 1.0, "b": 2.0}])

    def test_onnx_answers_rows(self, tmp_path: Path) -> None:
        """One input, one output: a value a row."""
        row_sums(tmp_path / "model.onnx")
        loaded = load(tmp_path, "onnx", None)

        assert answer(loaded, {"instances": [[1, 2], [3, 4.5]]}) == {"predictions": [3.0, 7.5]}
        assert answer(loaded, [{"x": [1, 2]}]) == [3.0]
        assert answer(loaded, {"instances": []}) == {"predictions": []}

    def test_onnx_that_takes_one_row_at_a_time_gets_them_one_by_one(self, tmp_path: Path) -> None:
        """A model exported with a fixed batch of one serves several rows, too."""
        row_sums(tmp_path / "model.onnx", rows=1)

        assert answer(load(tmp_path, "onnx", None), [[1, 2], [3, 4]]) == [3.0, 7.0]

    def test_onnx_with_several_inputs_and_outputs(self, tmp_path: Path) -> None:
        """A row is an object or a list of the inputs, words included; a prediction is an object of all outputs."""
        nodes = [
            helper.make_node("Identity", ["word"], ["same"]),
            helper.make_node("Mul", ["count", "count"], ["square"]),
        ]
        inputs = [tensor("word", TensorProto.STRING, "n", 1), tensor("count", TensorProto.INT64, "n")]
        outputs = [tensor("same", TensorProto.STRING, "n", 1), tensor("square", TensorProto.INT64, "n")]
        an_onnx_model(tmp_path / "model.onnx", nodes, inputs, outputs)
        loaded = load(tmp_path, "onnx", None)
        expected = [{"same": ["a"], "square": 4}, {"same": ["b"], "square": 9}]

        assert answer(loaded, [{"word": "a", "count": 2}, {"count": 3, "word": "b"}]) == expected
        assert answer(loaded, b"a,2\nb,3\n", "text/csv") == expected
        with pytest.raises(BadRequestError, match="a row has no count"):
            answer(loaded, [{"word": "a"}])
        with pytest.raises(BadRequestError, match="a row has no value at place 1"):
            answer(loaded, [["a"]])

    def test_onnx_classifiers_answer_their_label_unless_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As scikit-learn's predict does; ONNX_OUTPUTS asks for the probabilities."""
        nodes = [
            helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            helper.make_node("Softmax", ["x"], ["probabilities"], axis=1),
        ]
        outputs = [tensor("label", TensorProto.INT64, "n"), tensor("probabilities", TensorProto.FLOAT, "n", 2)]
        an_onnx_model(tmp_path / "model.onnx", nodes, [tensor("x", TensorProto.FLOAT, "n", 2)], outputs)

        assert answer(load(tmp_path, "onnx", None), [[1, 0], [0, 1]]) == [0, 1]
        monkeypatch.setenv("ONNX_OUTPUTS", "probabilities, label")
        assert answer(load(tmp_path, "onnx", None), [[0, 0]]) == [{"probabilities": [0.5, 0.5], "label": 0}]
        monkeypatch.setenv("ONNX_OUTPUTS", "scores")
        with pytest.raises(LoadError, match="names scores; the model has label, probabilities"):
            load(tmp_path, "onnx", None)

    def test_xgboost_answers_what_its_booster_predicts(self, tmp_path: Path) -> None:
        """Probabilities of the second class, as SageMaker's container does."""
        xgboost = pytest.importorskip("xgboost", reason="there is no wheel without CUDA for this machine")
        data = xgboost.DMatrix(np.array([[0.0], [0.0], [4.0], [4.0]]), label=[0, 0, 1, 1])
        settings = {"objective": "binary:logistic", "min_child_weight": 0}
        booster = xgboost.train(settings, data, num_boost_round=5)
        booster.save_model(tmp_path / "model.ubj")

        low, high = answer(load(tmp_path, "xgboost", None), [[0.0], [4.0]])

        assert low < 0.5 < high

    def test_lightgbm_answers_what_its_booster_predicts(self, tmp_path: Path) -> None:
        """The model's text file, not the list of requirements beside it."""
        data = lightgbm.Dataset(np.array([[0.0]] * 30 + [[4.0]] * 30), label=[0.0] * 30 + [1.0] * 30)
        lightgbm.train({"objective": "regression", "verbose": -1}, data, 20).save_model(tmp_path / "model.txt")
        (tmp_path / "requirements.txt").write_text("lightgbm\n")

        low, high = answer(load(tmp_path, "lightgbm", None), [[0.0], [4.0]])

        assert low < 0.5 < high

    def test_what_a_model_runs_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The framework's own word, none where only the user's code knows; a GPU that is asked for must be there."""
        row_sums(tmp_path / "model.onnx")
        joblib.dump(a_classifier(), tmp_path / "model.joblib")

        assert load(tmp_path, "sklearn", None).handler.device == "cpu"
        monkeypatch.setenv("ONNX_PROVIDERS", "cpu")
        assert load(tmp_path, "onnx", None).handler.device == "CPUExecutionProvider"
        monkeypatch.setenv("ONNX_PROVIDERS", "no_such,cpu")
        with pytest.raises(LoadError, match="ONNX_PROVIDERS names no_such; this ONNX Runtime has"):
            load(tmp_path, "onnx", None)
        code(tmp_path, "def predict_fn(data, model): return model.predict(data)\n")
        assert load(tmp_path, "sklearn", None).handler.device == "cpu"
        code(tmp_path, "def model_fn(folder): return None\n")
        assert load(tmp_path, "custom", None).handler.device is None

    def test_the_framework_is_found_out_from_the_files(self, tmp_path: Path) -> None:
        """Nobody has to say what a file called model.onnx is; a list of requirements is no model."""
        (tmp_path / "requirements.txt").write_text("onnxruntime\n")
        (tmp_path / "config.json").write_text("{}")
        row_sums(tmp_path / "model.onnx")

        loaded = load(tmp_path, None, None)

        assert (loaded.framework, loaded.file) == ("onnx", str(tmp_path / "model.onnx"))

    def test_of_several_files_the_one_named_model_is_taken(self, tmp_path: Path) -> None:
        """Without one of that name the choice is the user's."""
        row_sums(tmp_path / "a.onnx")
        row_sums(tmp_path / "b.onnx")
        with pytest.raises(LoadError, match=r"which of a\.onnx, b\.onnx is the model\? Name it model\.onnx"):
            load(tmp_path, "onnx", None)

        row_sums(tmp_path / "model.onnx")

        assert load(tmp_path, "onnx", None).file == str(tmp_path / "model.onnx")


class TestLoadErrors:
    """Why a model can't be loaded, in words for its user."""

    @pytest.mark.parametrize(
        ("framework", "handler", "why"),
        [
            ("onnx", None, "there is no file with one of .onnx in FOLDER"),
            (
                None,
                None,
                f"there is no file with one of {ALL_ENDINGS} in FOLDER",
            ),
            ("custom", None, "framework custom needs a handler: code/inference.py in FOLDER"),
            ("tensorflow", None, "framework tensorflow needs a handler: code/inference.py in FOLDER"),
            ("custom", "mine.py", "there is no handler FOLDER/mine.py"),
        ],
    )
    def test_what_is_missing_is_named(
        self, tmp_path: Path, framework: str | None, handler: str | None, why: str
    ) -> None:
        """The file, the folder and what would be taken."""
        with pytest.raises(LoadError) as error:
            load(tmp_path, framework, handler)

        assert str(error.value) == why.replace("FOLDER", str(tmp_path))

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """The folder itself is named."""
        with pytest.raises(LoadError, match="there is no model folder"):
            load(tmp_path / "gone", "onnx", None)

    def test_a_handler_without_a_model(self, tmp_path: Path) -> None:
        """Functions need a model_fn where no framework loads the model."""
        code(tmp_path, "def predict_fn(data, model): return data\n")

        with pytest.raises(LoadError, match=r"inference\.py has no model_fn"):
            load(tmp_path, "custom", None)

    def test_a_handler_that_is_no_python(self, tmp_path: Path) -> None:
        """Another ending can't be imported."""
        (tmp_path / "mine.txt").write_text("")

        with pytest.raises(LoadError, match=r"mine\.txt is no Python file"):
            load(tmp_path, "custom", "mine.txt")

    def test_what_a_handler_raises_is_not_hidden(self, tmp_path: Path) -> None:
        """The user's own error, with its own words."""
        code(tmp_path, "raise RuntimeError('no weights here')\n")

        with pytest.raises(RuntimeError, match="no weights here"):
            load(tmp_path, "custom", None)


def code(folder: Path, text: str) -> None:
    """Write the user's handler where SageMaker looks for it."""
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "inference.py").write_text(text)


FUNCTIONS = {
    "model_fn": "def model_fn(model_dir): return lambda rows: [['model', *row] for row in rows]\n",
    "input_fn": "import json\ndef input_fn(body, content_type): return [[content_type, *json.loads(body)]]\n",
    "predict_fn": "def predict_fn(data, model): return [['predict', *row] for row in model(data)]\n",
    "output_fn": "def output_fn(prediction, accept): return repr([accept, *prediction]), 'text/plain'\n",
}


class TestFunctions:
    """SageMaker's functions."""

    @pytest.mark.parametrize(
        "missing", [each for size in range(4) for each in itertools.combinations(list(FUNCTIONS)[1:], size)]
    )
    def test_what_is_missing_has_sagemakers_default(self, tmp_path: Path, missing: Sequence[str]) -> None:
        """Each function alone or with any others: JSON in, the model called, JSON out."""
        code(tmp_path, "".join(text for name, text in FUNCTIONS.items() if name not in missing))

        found = answer(load(tmp_path, "custom", None), b"[7]" if "input_fn" not in missing else b"[[7]]")

        row = [JSON, 7] if "input_fn" not in missing else [7]
        rows = [[*(["predict"] if "predict_fn" not in missing else []), "model", *row]]
        assert found == (rows if "output_fn" in missing else (repr([JSON, *rows]).encode(), "text/plain"))

    def test_all_functions_may_be_missing_but_for_the_frameworks_model(self, tmp_path: Path) -> None:
        """A handler over a framework's model gets that framework's loader as its model_fn."""
        joblib.dump(a_classifier(), tmp_path / "model.joblib")
        code(tmp_path, "def predict_fn(data, model): return [int(each) + 10 for each in model.predict(data)]\n")

        assert answer(load(tmp_path, "sklearn", None), {"instances": ROWS}) == {"predictions": [10, 11]}

    def test_functions_may_be_async(self, tmp_path: Path) -> None:
        """They are awaited, and so is what a plain function returns to be awaited."""
        code(
            tmp_path,
            "import asyncio\n"
            "def model_fn(model_dir): return 5\n"
            "async def input_fn(body, content_type):\n    await asyncio.sleep(0)\n    return int(body)\n"
            "def predict_fn(data, model):\n    async def later(): return data + model\n    return later()\n"
            "async def output_fn(prediction, accept): return str(prediction)\n",
        )

        assert answer(load(tmp_path, "custom", None), b"7") == 12

    def test_a_model_that_is_awaited_for_is_refused(self, tmp_path: Path) -> None:
        """There is no event loop yet when the model is loaded."""
        code(tmp_path, "async def model_fn(model_dir): return 5\n")

        with pytest.raises(LoadError, match="model_fn must not be async"):
            load(tmp_path, "custom", None)

    def test_functions_get_the_context_if_they_take_one(self, tmp_path: Path) -> None:
        """As in SageMaker's PyTorch containers; a model_fn may take no folder either."""
        code(
            tmp_path,
            "def model_fn(): return 'model'\n"
            "def predict_fn(data, model, context): return [model, context.system_properties['gpu_id']]\n"
            "def output_fn(*arguments): return str(len(arguments))\n",
        )

        assert answer(load(tmp_path, "custom", None), b"1") == 2

    def test_transform_fn_stands_for_the_last_three(self, tmp_path: Path) -> None:
        """It gets the model, the body, its type and what is accepted."""
        code(
            tmp_path,
            "def model_fn(model_dir): return 'model'\n"
            "def transform_fn(model, body, content_type, accept): return repr((model, body, content_type, accept))\n",
        )

        found = answer(load(tmp_path, "custom", None), b"1,2", "text/csv", "text/csv")

        assert found == (b"('model', '1,2', 'text/csv', 'text/csv')", "text/csv")

    @pytest.mark.parametrize(
        ("output", "body", "kind"),
        [
            ("'text'", b"text", "text/csv"),
            ("b'bytes'", b"bytes", "text/csv"),
            ("bytearray(b'bytes')", b"bytes", "text/csv"),
            ("('text', 'image/png')", b"text", "image/png"),
            ("(b'bytes', 'image/png')", b"bytes", "image/png"),
            ("[1, 2]", b"1\n2\n", "text/csv"),
            ("(1, 2)", b"1\n2\n", "text/csv"),
            ("([1, 2], 'application/json')", b"[1,2]", JSON),
            ("(1, 2, 3)", b"1\n2\n3\n", "text/csv"),
            ("5", b"5\n", "text/csv"),
            ("__import__('numpy').array([[1, 2]])", b"1,2\n", "text/csv"),
        ],
    )
    def test_output_fn_may_return_many_things(self, tmp_path: Path, output: str, body: bytes, kind: str) -> None:
        """A body, a body and its type, or what is still to be encoded."""
        code(tmp_path, f"def model_fn(model_dir): return None\ndef predict_fn(*_): return 0\n"
                       f"def output_fn(prediction, accept): return {output}\n")  # fmt: skip

        text, found = asyncio.run(load(tmp_path, "custom", None).handler.answer(b"1", JSON, "text/csv, */*;q=0.1"))

        assert (text, found) == (body, kind)

    @pytest.mark.parametrize(
        ("output", "found"), [("None", None), ("(each for each in 'ab')", ["a", "b"]), ("{1: 0.5}", {"1": 0.5})]
    )
    def test_odd_predictions_are_json_where_json_has_them(self, tmp_path: Path, output: str, found: Any) -> None:
        """Nothing, a generator, numbers as keys."""
        code(tmp_path, f"def model_fn(model_dir): return None\ndef predict_fn(*_): return {output}\n")

        assert answer(load(tmp_path, "custom", None), b"1") == found

    @pytest.mark.parametrize(
        ("content_type", "seen"), [(JSON, "str"), ("", "str"), ("text/csv", "str"), ("application/x-npy", "bytes")]
    )
    def test_text_comes_as_a_string_all_else_as_bytes(self, tmp_path: Path, content_type: str, seen: str) -> None:
        """As SageMaker's toolkits hand bodies to input_fn."""
        code(tmp_path, "def model_fn(_): return None\ndef input_fn(body, kind): return type(body).__name__\n"
                       "def predict_fn(data, model): return data\n")  # fmt: skip

        assert answer(load(tmp_path, "custom", None), b"1", content_type) == seen

    def test_text_that_is_not_utf8_is_the_clients_fault(self, tmp_path: Path) -> None:
        """400, and the user's code never sees it."""
        code(tmp_path, "def model_fn(_): return None\ndef input_fn(body, kind): return body\n")

        with pytest.raises(BadRequestError, match="the body is not UTF-8"):
            answer(load(tmp_path, "custom", None), b"\xff")

    def test_a_handler_imports_what_lies_beside_it(self, tmp_path: Path) -> None:
        """Its own folder is on Python's path."""
        code(tmp_path, "from beside_the_handler import model\ndef model_fn(_): return lambda rows: [model]\n")
        (tmp_path / "code" / "beside_the_handler.py").write_text("model = 3\n")

        assert answer(load(tmp_path, "custom", None), [[1]]) == [3]


PREDICTOR = """
class Base:
    def preprocess(self, data): return data
    def postprocess(self, results): return results

class {name}(Base):
    def load(self, uri):
        import pathlib
        self.factor = int(pathlib.Path(uri, "factor").read_text())
    {steps}
"""


class TestPredictor:
    """Vertex's custom prediction routines."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A model folder with one number in it."""
        (tmp_path / "factor").write_text("3")
        return tmp_path

    def test_the_three_steps_see_all_of_the_request(self, folder: Path) -> None:
        """Parameters included; what postprocess returns as an object is the answer."""
        steps = (
            "def preprocess(self, data): return [each * data['parameters']['by'] for each in data['instances']]\n"
            "    async def predict(self, instances): return [each * self.factor for each in instances]\n"
            "    def postprocess(self, results): return {'predictions': results, 'unit': 'm'}\n"
        )
        code(folder, PREDICTOR.format(name="Predictor", steps=steps))
        loaded = load(folder, "custom", None)

        assert answer(loaded, {"instances": [1, 2], "parameters": {"by": 10}}) == {"predictions": [30, 60], "unit": "m"}

    def test_steps_may_be_missing_and_the_class_named_otherwise(self, folder: Path) -> None:
        """Without `parameters` there is no such key; an answer that is no object is wrapped as the request was."""
        steps = "def predict(self, data): return [sorted(data), len(data['instances']) * self.factor]"
        code(folder, PREDICTOR.replace("(Base)", "").format(name="Mine", steps=steps))

        found = answer(load(folder, "custom", None), {"instances": [1, 2]})

        assert found == {"predictions": [["instances"], 6]}

    def test_a_bare_list_goes_in_as_it_is(self, folder: Path) -> None:
        """And comes out bare."""
        steps = "def predict(self, instances): return [each * self.factor for each in instances]"
        code(folder, PREDICTOR.format(name="Predictor", steps=steps))

        assert answer(load(folder, "custom", None), [1, 2]) == [3, 6]

    def test_a_base_class_that_is_imported_is_not_the_predictor(self, folder: Path) -> None:
        """Vertex's own Predictor is built on, not served."""
        (folder / "code").mkdir()
        (folder / "code" / "vertex_base.py").write_text(
            "class Predictor:\n    def load(self, uri): raise RuntimeError\n"
        )
        steps = "def predict(self, instances): return [self.factor]"
        own = PREDICTOR.format(name="Mine", steps=steps)
        code(folder, f"from vertex_base import Predictor\n{own}")

        assert answer(load(folder, "custom", None), [1]) == [3]


def test_threads_of_onnx_follow_the_usual_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS is what users set on every platform; the model answers alike."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    row_sums(tmp_path / "model.onnx")

    assert answer(load(tmp_path, "onnx", None), [[1, 2]]) == [3.0]
    assert onnx.load(str(tmp_path / "model.onnx")).graph.name == "tests"
