"""What SageMaker's containers call to serve a model with mlscale's serving code. It needs Python 3.10."""

import asyncio
import sys
import threading
from pathlib import Path

FRAMEWORK = None  # written when it is packed

LOCK = threading.Lock()
LOOPS = []


def model_fn(model_dir):
    # This module may be a copy of the one in the archive: the containers install it.
    code = Path(model_dir) / "code" / "mlscale_runtime"
    sys.path.insert(0, str(code))
    try:
        import orjson  # noqa: F401
    except ImportError:
        sys.path.append(str(code / "fallback"))
    from mlscale.serving.handler import load

    loaded = load(Path(model_dir), FRAMEWORK, None)
    print(f"mlscale: {loaded.framework} {loaded.file}", flush=True)
    return loaded.handler


def the_loop():
    """Return the one event loop of this process; it runs in a thread of its own.

    In a worker with greenlets threads are greenlets, requests come at once, several at the start load the model each,
    and only one loop can run.
    """
    with LOCK:
        if not LOOPS:
            LOOPS.append(asyncio.new_event_loop())
            threading.Thread(target=LOOPS[0].run_forever, name="mlscale", daemon=True).start()
        return LOOPS[0]


def transform_fn(model, body, content_type, accept):
    from mlscale.serving.codec import BadRequestError

    raw = body.encode() if isinstance(body, str) else bytes(body)
    try:
        asked = asyncio.run_coroutine_threadsafe(model.answer(raw, content_type or "", accept or ""), the_loop())
        answer, kind = asked.result()
    except BadRequestError as error:
        return refused(error.status, str(error))
    # Hugging Face's toolkit takes the answer alone, and gives it the type that was asked for.
    return answer if "sagemaker_huggingface_inference_toolkit" in sys.modules else (answer, kind)


def refused(status, why):
    """Answer with an HTTP status in the way of the server that runs this: Flask, or SageMaker's toolkit."""
    if "flask" in sys.modules:
        import flask

        if flask.has_request_context():
            return flask.Response(why, status, mimetype="text/plain")
    try:
        from sagemaker_inference.errors import BaseInferenceToolkitError
    except ImportError:
        raise ValueError(why) from None
    raise BaseInferenceToolkitError(status, why, why)
