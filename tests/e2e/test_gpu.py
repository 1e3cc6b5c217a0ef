"""What the model server asks of a machine with GPUs: real servers, whose Python packages are doubles."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlscale.serving.listener import free_port
from tests.documents import ROOT
from tests.e2e.test_server import Running, server

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
ALL = [TENSORRT, CUDA, CPU]
ROWS = {"instances": [[1, 2], [3, 4.5]]}


class Machine:
    """A machine's settings, and the journal of what was asked of its packages."""

    def __init__(self, folder: Path, has: Mapping[str, Any]) -> None:
        self.model = folder / "model"
        self.model.mkdir()
        self._journal = folder / "journal"
        self._journal.touch()
        self.variables = {
            "PYTHONPATH": str(ROOT / "tests" / "doubles" / "gpu_machine"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GPU_MACHINE": json.dumps(has),
            "GPU_JOURNAL": str(self._journal),
            "MLSCALE_PORT": str(free_port("127.0.0.1")),
        }

    @property
    def asked(self) -> Sequence[Any]:
        """All that was asked so far."""
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    @contextmanager
    def serving(self, file: str, text: str = "", **environment: str) -> Iterator[Running]:
        """Run a server of one model's file."""
        (self.model / file).write_text(text)
        with server(self.model, **self.variables, **environment) as running:
            yield running

    def refusal(self, file: str, text: str = "", **environment: str) -> str:
        """Return the last line of a server that can't load its model."""
        (self.model / file).write_text(text)
        variables = {**self.variables, "MLSCALE_MODEL_DIR": str(self.model), **environment}
        command = [sys.executable, "-m", "mlscale.serving.server"]
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 3
        return ended.stderr.splitlines()[-1].replace(str(self.model), "MODEL")


def device(running: Running) -> str | None:
    """Return what the health route says that the model runs on."""
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
        connection.request("GET", "/ping")
        answer = connection.getresponse()
        answer.read()
        return answer.headers["x-mlscale-device"]


def log_line(running: Running) -> str:
    """Return what the server's first line says of the place that it loaded its model to."""
    assert running.process.stderr is not None
    return running.process.stderr.readline().partition(" loaded in ")[2].partition(" s")[2].partition(", ")[0]


def predictions(running: Running, rows: Any = None) -> Any:
    """Return the decoded answer to rows."""
    body = json.dumps(rows or ROWS).encode()
    status, answer = running.ask("POST", "/invocations", body, content_type="application/json")
    return json.loads(answer) if status == 200 else (status, json.loads(answer))


class TestOnnx:
    """Which providers ONNX Runtime is asked for."""

    def test_cuda_is_taken_where_it_is(self, tmp_path: Path) -> None:
        """CUDA, then the processor; TensorRT builds engines for minutes and is left alone; log and /ping say which."""
        machine = Machine(tmp_path, {"providers": ALL, "starts": ALL})
        with machine.serving("model.onnx") as running:
            assert log_line(running) == f" on {CUDA}"
            assert device(running) == CUDA
            assert predictions(running) == {"predictions": [3.0, 7.5]}
        assert machine.asked == [["preload_dlls"], ["InferenceSession", [CUDA, CPU], 1]]

    def test_a_build_without_gpus_is_asked_for_the_processor(self, tmp_path: Path) -> None:
        """Nothing of CUDA is looked for."""
        machine = Machine(tmp_path, {"providers": [CPU], "starts": [CPU]})
        with machine.serving("model.onnx") as running:
            assert device(running) == CPU
        assert machine.asked == [["InferenceSession", [CPU], 1]]

    def test_a_gpu_that_does_not_start_leaves_the_processor(self, tmp_path: Path) -> None:
        """Nobody asked for CUDA: the model serves, and the truth is told."""
        machine = Machine(tmp_path, {"providers": ALL, "starts": [CPU]})
        with machine.serving("model.onnx") as running:
            assert (log_line(running), device(running)) == (f" on {CPU}", CPU)

    @pytest.mark.parametrize("asked", ["tensorrt, cuda,cpu", f"{TENSORRT},{CUDA},{CPU}"])
    def test_the_order_that_is_asked_for_is_kept(self, tmp_path: Path, asked: str) -> None:
        """Short names and whole ones."""
        machine = Machine(tmp_path, {"providers": ALL, "starts": ALL})
        with machine.serving("model.onnx", ONNX_PROVIDERS=asked) as running:
            assert device(running) == TENSORRT
        assert machine.asked == [["preload_dlls"], ["InferenceSession", ALL, 1]]

    def test_the_processor_can_be_asked_for(self, tmp_path: Path) -> None:
        """A GPU that is there stays free."""
        machine = Machine(tmp_path, {"providers": ALL, "starts": ALL})
        with machine.serving("model.onnx", ONNX_PROVIDERS="cpu") as running:
            assert device(running) == CPU
        assert machine.asked == [["InferenceSession", [CPU], 1]]

    def test_what_is_asked_for_and_not_there_is_refused(self, tmp_path: Path) -> None:
        """Whoever pays for a GPU is not served from the processor without a word."""
        machine = Machine(tmp_path, {"providers": [CUDA, CPU], "starts": [CPU]})

        assert machine.refusal("model.onnx", ONNX_PROVIDERS="rocm,cuda") == (
            "the model can't be loaded: LoadError: ONNX_PROVIDERS names rocm; "
            "this ONNX Runtime has CUDAExecutionProvider, CPUExecutionProvider"
        )
        assert machine.refusal("model.onnx", ONNX_PROVIDERS="cuda,cpu") == (
            "the model can't be loaded: LoadError: ONNX_PROVIDERS names CUDAExecutionProvider, "
            "which ONNX Runtime could not start"
        )


class TestTorch:
    """Where a TorchScript is loaded, what it gets and what becomes of its answer."""

    @pytest.mark.parametrize(
        ("has", "where"),
        [({"cuda": True, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")],
        ids=["NVIDIA", "Apple", "none"],
    )
    def test_the_device_is_what_is_there(self, tmp_path: Path, has: Mapping[str, bool], where: str) -> None:
        """Module and rows go to the same place, with gradients off; log and /ping name it."""
        machine = Machine(tmp_path, has)
        with machine.serving("model.pt", "tensor") as running:
            assert (log_line(running), device(running)) == (f" on {where}", where)
            assert predictions(running) == {"predictions": [3.0, 7.5]}
        call = ["call", where, "float32", [[1.0, 2.0], [3.0, 4.5]], {"inference": True, "train": False}]
        assert machine.asked == [["jit.load", "model.pt", where], call]

    def test_another_device_can_be_asked_for(self, tmp_path: Path) -> None:
        """The second GPU, or none."""
        machine = Machine(tmp_path, {"cuda": True})
        with machine.serving("model.pth", "tensor", TORCH_DEVICE="cuda:1") as running:
            assert device(running) == "cuda:1"
            assert predictions(running) == {"predictions": [3.0, 7.5]}

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("tuple", [[3.0, 2.0], [7.5, 4.5]]),
            ("dict", [{"sum": 3.0, "most": 2.0}, {"sum": 7.5, "most": 4.5}]),
        ],
    )
    def test_several_outputs_are_given_row_by_row(self, tmp_path: Path, form: str, expected: Any) -> None:
        """A list, or an object where the outputs have names."""
        with Machine(tmp_path, {}).serving("model.pt", form) as running:
            assert predictions(running) == {"predictions": expected}

    def test_rows_have_the_type_of_the_weights(self, tmp_path: Path) -> None:
        """A model in half precision gets halves, whole numbers included; what is no table of numbers is told so."""
        machine = Machine(tmp_path, {"cuda": True, "weights": "float16"})
        with machine.serving("model.pt", "tensor") as running:
            assert predictions(running, [[1, 2]]) == [3.0]
            assert predictions(running, [["a", "b"]]) == (400, {"error": "this model takes numbers alone"})
            assert predictions(running, [{"x": 1}]) == (400, {"error": "this model takes numbers alone"})
            status, answer = predictions(running, [[1, 2], [3]])
            assert (status, answer["error"][:27]) == (400, "these rows make no tensor: ")
            assert predictions(running, [[2, 2]]) == [4.0]
        assert [each[1:3] for each in machine.asked[1:]] == [["cuda", "float16"], ["cuda", "float16"]]

    def test_why_a_file_is_not_loaded(self, tmp_path: Path) -> None:
        """Weights alone are no TorchScript, and a device that is not there is named."""
        machine = Machine(tmp_path, {})
        begin = "the model can't be loaded: LoadError: MODEL/model.pt can't be loaded on"

        assert machine.refusal("model.pt", "weights") == (
            f"{begin} cpu as a TorchScript (torch.jit.save): "
            "PytorchStreamReader failed locating file constants.pkl: file not found"
        )
        assert machine.refusal("model.pt", "tensor", TORCH_DEVICE="cuda") == (
            f"{begin} cuda as a TorchScript (torch.jit.save): Attempting to use cuda, which is not there."
        )


class TestHandler:
    """The user's own code chooses by itself."""

    @pytest.mark.parametrize(("has", "gpu"), [({"cuda": True}, 0), ({}, None)], ids=["GPU", "none"])
    def test_the_context_names_the_gpu(self, tmp_path: Path, has: Mapping[str, bool], gpu: int | None) -> None:
        """As SageMaker's PyTorch containers do; what the model runs on is then not ours to say."""
        code = "import torch\ndef model_fn(folder, context): return [context.system_properties['gpu_id']]\n"
        code += "def predict_fn(rows, model): return model\n"
        with Machine(tmp_path, has).serving("inference.py", code) as running:
            assert (log_line(running), device(running)) == ("", None)
            assert predictions(running, [1]) == [gpu]


class TestMetrics:
    """What NVML is asked for, and what becomes of its failures."""

    GPUS: Sequence[Mapping[str, int]] = ({"used": 5_368_709_120, "busy": 87}, {"used": 1, "busy": 0})

    @staticmethod
    def gauges(running: Running) -> Sequence[str]:
        """Return the lines about GPUs."""
        status, text = running.ask("GET", "/metrics")
        assert status == 200
        assert b"process_cpu_seconds_total " in text
        return [line for line in text.decode().splitlines() if "gpu" in line]

    def test_memory_and_utilization_of_each_gpu(self, tmp_path: Path) -> None:
        """Bytes, and a share from 0 to 1; NVML is started at the first reading, and once."""
        machine = Machine(tmp_path, {"gpus": self.GPUS})
        expected = [
            "# TYPE model_gpu_memory_used_bytes gauge",
            'model_gpu_memory_used_bytes{gpu="0"} 5368709120',
            'model_gpu_memory_used_bytes{gpu="1"} 1',
            "# TYPE model_gpu_utilization_ratio gauge",
            'model_gpu_utilization_ratio{gpu="0"} 0.87',
            'model_gpu_utilization_ratio{gpu="1"} 0',
        ]
        with machine.serving("model.pt", "tensor") as running:
            assert machine.asked == [["jit.load", "model.pt", "cpu"]]
            assert self.gauges(running) == expected
            assert self.gauges(running) == expected
        read = [[call, gpu] for gpu in (0, 1) for call in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates")]
        found = [["nvmlInit"], ["nvmlDeviceGetCount"], *(["nvmlDeviceGetHandleByIndex", gpu] for gpu in (0, 1))]
        assert machine.asked[1:] == [*found, *read, *read]

    def test_what_a_gpu_does_not_tell_is_left_out(self, tmp_path: Path) -> None:
        """A part of a GPU has no utilization; its memory is told all the same."""
        machine = Machine(tmp_path, {"gpus": self.GPUS[:1], "nvml_fails": ["nvmlDeviceGetUtilizationRates"]})
        with machine.serving("model.pt", "tensor") as running:
            assert self.gauges(running) == [
                "# TYPE model_gpu_memory_used_bytes gauge",
                'model_gpu_memory_used_bytes{gpu="0"} 5368709120',
            ]

    @pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
    def test_an_nvml_that_does_not_start_leaves_the_other_metrics(self, tmp_path: Path, call: str) -> None:
        """Without a driver the page has no GPUs, and the log says once why."""
        machine = Machine(tmp_path, {"gpus": self.GPUS, "nvml_fails": [call]})
        with machine.serving("model.pt", "tensor") as running:
            assert self.gauges(running) == []
            assert self.gauges(running) == []
            running.process.terminate()
            assert running.process.stderr is not None
            log = running.process.stderr.read().splitlines()[1:]
        why = "Driver Not Loaded" if call == "nvmlInit" else "Not Supported"
        assert log == [f"no GPU is in the metrics: NVML says {why}"]
        assert [each[0] for each in machine.asked].count(call) == 1
