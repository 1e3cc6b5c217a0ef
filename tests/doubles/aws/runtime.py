"""SageMaker Runtime: who answers an invocation, with what, and what it leaves in the metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.doubles.aws import metrics, surroundings
from tests.doubles.aws.refusal import Refusal
from tests.doubles.aws.wire import Call, Reply
from tests.doubles.aws.world import Answer, Endpoint, Json, Later, Region, Variant, new_id

NAMESPACE = "AWS/SageMaker"
MODEL_ERROR = 424
BAD = 400


class Runtime:
    """Whose turn it is at each endpoint."""

    def __init__(self) -> None:
        self._owed: dict[tuple[str, str], float] = {}

    def forget(self) -> None:
        """Start the turns anew."""
        self._owed.clear()

    def chosen(self, endpoint: Endpoint, target: str | None) -> Variant:
        """Return the variant that answers: the one named, or the one that its weight owes most to."""
        if target is not None:
            variant = endpoint.variant(target)
            if variant is None:
                words = f"Variant {target} not found for Request"
                raise Refusal("invoke.variant-missing", "ValidationError", words)
            return variant
        # rule invoke.weights
        answering = endpoint.answering
        total = sum(each.weight for each in answering) or 1.0
        for each in answering:
            key = (endpoint.arn, each.name)
            self._owed[key] = self._owed.get(key, 0.0) + each.weight / total
        best = max(answering, key=lambda each: self._owed[endpoint.arn, each.name])
        self._owed[endpoint.arn, best.name] -= 1.0
        return best

    def copied_to(self, endpoint: Endpoint) -> list[Variant]:
        """Return the shadows whose turn it is to get a copy of a request."""
        # rule invoke.shadow
        total = sum(each.weight for each in endpoint.answering) or 1.0
        found = []
        for each in endpoint.variants:
            key = (endpoint.arn, each.name)
            if each.is_shadow:
                self._owed[key] = self._owed.get(key, 0.0) + min(1.0, each.weight / total)
                if self._owed[key] >= 1.0:
                    self._owed[key] -= 1.0
                    found.append(each)
        return found


def invoke_endpoint(region: Region, runtime: Runtime, call: Call) -> tuple[Reply, float]:
    """Return an answer, and how long its variant takes for it."""
    endpoint = _serving(region, call)
    if "AsyncInferenceConfig" in endpoint.config:
        words = f"Endpoint {endpoint.name} is an asynchronous endpoint; use InvokeEndpointAsync."
        raise Refusal("invoke.async-only", "ValidationError", words)
    variant = runtime.chosen(endpoint, call.headers.get("x-amzn-sagemaker-target-variant"))
    answer = answer_of(region, endpoint, variant.name)
    _measure(region, endpoint, variant, answer)
    for shadow in runtime.copied_to(endpoint):
        _measure(region, endpoint, shadow, answer_of(region, endpoint, shadow.name))
    if answer.status >= BAD:
        return _model_error(region, endpoint, answer), answer.latency_s
    body = answer_body(endpoint, variant, answer)
    headers = [
        ("Content-Type", answer.content_type),
        ("x-Amzn-Invoked-Production-Variant", variant.name),
        ("Content-Length", str(len(body))),
    ]
    return Reply(200, headers, body), answer.latency_s


def _serving(region: Region, call: Call) -> Endpoint:
    """Return the endpoint, which can answer."""
    name = call.params["EndpointName"]
    endpoint = region.endpoints.get(name.lower())
    if endpoint is None or endpoint.name != name or endpoint.status in {"Creating", "Failed"}:
        # rule invoke.not-serving
        words = f"Endpoint {name} of account {region.account} not found."
        raise Refusal("invoke.missing", "ValidationError", words)
    return endpoint


def answer_of(region: Region, endpoint: Endpoint, variant: str) -> Answer:
    """Return what was scripted for the variant, for its endpoint, or the plain answer."""
    answers = region.world.answers
    return answers.get((endpoint.name, variant)) or answers.get((endpoint.name, "")) or Answer()


def answer_body(endpoint: Endpoint, variant: Variant, answer: Answer) -> bytes:
    """Return what is scripted, or a line that says who answered."""
    said = {"endpoint": endpoint.name, "config": endpoint.config_name, "variant": variant.name}
    return (json.dumps(said) if answer.body is None else answer.body).encode()


def _measure(region: Region, endpoint: Endpoint, variant: Variant, answer: Answer) -> None:
    """Keep what one invocation is in the metrics."""
    # rule invoke.metrics
    dimensions = {"EndpointName": endpoint.name, "VariantName": variant.name}
    values = {
        "Invocations": 1.0,
        "InvocationsPerInstance": 1.0 / max(variant.count, 1),
        "Invocation4XXErrors": float(answer.status // 100 == BAD // 100),
        "Invocation5XXErrors": float(answer.status // 100 == BAD // 100 + 1),
        "InvocationModelErrors": float(answer.status >= BAD),
        "ModelLatency": answer.latency_s * 1e6,
        "OverheadLatency": 1000.0,
    }
    for name, value in values.items():
        metrics.put(region, NAMESPACE, name, dimensions, [value], region.now())


def _model_error(region: Region, endpoint: Endpoint, answer: Answer) -> Reply:
    group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
    console = f"https://{region.name}.console.aws.amazon.com/cloudwatch/home?region={region.name}"
    message = (
        f'Received server error ({answer.status}) from primary with message "{answer.body or ""}". See '
        f"{console}#logEventViewer:group={group} in account {region.account} for more information."
    )
    said = {
        "Message": message,
        "OriginalStatusCode": answer.status,
        "OriginalMessage": answer.body or "",
        "LogStreamArn": region.arn("logs", f"log-group:{group}"),
    }
    body = json.dumps(said).encode()
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "ModelError")]
    # rule invoke.model-error
    return Reply(MODEL_ERROR, [*headers, ("Content-Length", str(len(body)))], body, "ModelError")


def invoke_endpoint_async(region: Region, runtime: Runtime, call: Call) -> tuple[Reply, float]:
    """Take an invocation whose answer will be an object in S3."""
    endpoint = _serving(region, call)
    config = endpoint.config.get("AsyncInferenceConfig")
    if config is None:
        words = f"Endpoint {endpoint.name} is not an asynchronous endpoint."
        raise Refusal("invoke.not-async", "ValidationError", words)
    source = call.headers.get("x-amzn-sagemaker-inputlocation", "")
    variant = runtime.chosen(endpoint, None)
    inference = call.headers.get("x-amzn-sagemaker-inference-id") or new_id()
    where = _locations(config["OutputConfig"], new_id())
    due = region.now() + region.world.settings.delay_s
    region.world.later.append(
        Later(due, lambda: _finish(region, endpoint, variant.name, source=source, where=where, inference=inference))
    )
    body = json.dumps({"InferenceId": inference}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("X-Amzn-SageMaker-OutputLocation", where["output"]),
        ("Content-Length", str(len(body))),
    ]
    if "failure" in where:
        headers.append(("X-Amzn-SageMaker-FailureLocation", where["failure"]))
    return Reply(202, headers, body), 0.0


def _locations(output: Json, name: str) -> dict[str, str]:
    # rule invoke.async-locations
    where = {"output": f"{output['S3OutputPath'].rstrip('/')}/{name}.out"}
    if "S3FailurePath" in output:
        where["failure"] = f"{output['S3FailurePath'].rstrip('/')}/{name}-error.out"
    return where


def _finish(
    region: Region, endpoint: Endpoint, name: str, *, source: str, where: Mapping[str, str], inference: str
) -> bool:
    """Write the answer, once there is an instance to give it."""
    variant = endpoint.variant(name)
    if variant is None or variant.count == 0:
        # rule invoke.async-waits
        return False
    answer = answer_of(region, endpoint, name)
    _measure(region, endpoint, variant, answer)
    good = answer.status < BAD and surroundings.object_exists(region, source)
    said: Json = {"inferenceId": inference, "invocationStatus": "Completed" if good else "Failed"}
    if good:
        surroundings.put_object(region, where["output"], answer_body(endpoint, variant, answer))
        said["responseParameters"] = {"outputLocation": where["output"]}
    else:
        said["failureReason"] = answer.body or "ClientError: the input could not be downloaded or answered"
        if "failure" in where:
            surroundings.put_object(region, where["failure"], said["failureReason"].encode())
    topics = endpoint.config["AsyncInferenceConfig"]["OutputConfig"].get("NotificationConfig", {})
    topic = topics.get("SuccessTopic" if good else "ErrorTopic")
    if topic is not None:
        surroundings.publish(region, topic, json.dumps(said))
    return True
