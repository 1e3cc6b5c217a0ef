"""google.longrunning.Operations: what is under way, found again by its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import code_pb2

from tests.doubles.vertex import listing, protos
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.filters import parsed
from tests.doubles.vertex.refusal import missing
from tests.doubles.vertex.world import Operation, Region, World, stamp

STUCK_S = 86400.0
"""What a stuck operation takes: nothing ends it but moving the clock by a day, or a script that says so."""

WAIT_S = 30.0
LONGEST_WAIT_S = 600.0


def begun(
    region: Region,
    call: Call,
    target: str,
    act: Callable[[], Any],
    *,
    metadata: str,
    fails: tuple[str, str] | None = None,
    stuck: bool = False,
) -> Any:
    """Start something that ends later; what the caller gets is its operation.

    It is about the resource `target`, and `act` is what it does at its end and gives the response; instead it may fail
    with a code and words, or be stuck. `metadata` names the message that says how it goes.
    """
    # rule operation.name
    name = f"{target}/operations/{region.world.new_number()}"
    now = region.now()
    operation = Operation(
        name=name,
        method=call.operation,
        version=call.version,
        target=target,
        started=now,
        due=now + (STUCK_S if stuck else region.world.delay(call.operation)),
        metadata=protos.message(metadata)(),
        act=act,
        fails=fails,
        updated=now,
    )
    region.world.operations[name] = operation
    return shown(region.world, operation)


def shown(world: World, operation: Operation) -> Any:
    """Return an operation as it is now."""
    told = operations_pb2.Operation(name=operation.name, done=operation.done)
    metadata = operation.metadata
    stamp(metadata.generic_metadata.create_time, operation.started)
    stamp(metadata.generic_metadata.update_time, operation.updated)
    if operation.method == "DeployModel":
        metadata.deployment_stage = _stage(world, operation)
    _pack(told.metadata, metadata, operation.version)
    if operation.error is not None:
        told.error.code = code_pb2.Code.Value(operation.error[0])
        told.error.message = operation.error[1]
    elif operation.done:
        _pack(told.response, operation.response, operation.version)
    return told


def _pack(packed: Any, message: Any, version: str) -> None:
    packed.Pack(message)
    packed.type_url = packed.type_url.replace(".aiplatform.v1.", f".aiplatform.{version}.")


def _stage(world: World, operation: Operation) -> int:
    """Return how far a deployment is."""
    # rule operation.stage
    stages = protos.enum("DeploymentStage")
    if operation.done:
        return int(stages.DEPLOYMENT_TERMINATED)
    part = (world.clock.now() - operation.started) / max(operation.due - operation.started, 1e-9)
    order = ("PREPARING_MODEL", "ADDING_NODES_TO_CLUSTER", "GETTING_CONTAINER_IMAGE", "STARTING_MODEL_SERVER")
    return int(stages[order[min(int(part * len(order)), len(order) - 1)]])


def _found(world: World, name: str) -> Operation:
    region, rest = world.located(name)
    full = f"{region.place}/{rest}"
    if "/operations/" not in f"/{rest}":
        raise missing("operation.missing", f"Operation {name} not found.")
    # A client may leave out the resource that an operation is about.
    tail = f"/operations/{rest.rpartition('/')[2]}"
    found = world.operations.get(full) or next(
        (each for each in world.operations.values() if each.name.endswith(tail) and rest == tail[1:]), None
    )
    if found is None:
        raise missing("operation.missing", f"Operation {name} not found.")
    return found


def get_operation(world: World, request: Any, _call: Call) -> Any:
    """Return an operation."""
    return shown(world, _found(world, request.name))


def list_operations(world: World, request: Any, _call: Call) -> Any:
    """Return the operations of a resource or of a whole location."""
    region, rest = world.located(request.name)
    below = f"{region.place}/{rest}".rstrip("/").removesuffix("/operations") + "/"
    test = parsed(request.filter)

    def fits(operation: Operation) -> bool:
        fields = {"done": [str(operation.done).lower()], "name": [operation.name]}
        return test(fields.get)

    held = [each for each in world.operations.values() if each.name.startswith(below) and fits(each)]
    page, token = listing.page(held, request)
    return operations_pb2.ListOperationsResponse(
        operations=[shown(world, each) for each in page], next_page_token=token
    )


def cancel_operation(world: World, request: Any, _call: Call) -> Any:
    """End an operation before it did anything."""
    operation = _found(world, request.name)
    if not operation.done:
        # rule operation.cancel
        operation.fails = ("CANCELLED", "The operation was cancelled.")
        operation.due = min(operation.due, world.clock.now())
        world.settle()
    return empty_pb2.Empty()


def delete_operation(world: World, request: Any, _call: Call) -> Any:
    """Forget an operation; what it is about goes on."""
    operation = _found(world, request.name)
    if operation.done:
        del world.operations[operation.name]
    return empty_pb2.Empty()


def waited_for(world: World, request: Any) -> tuple[str, float]:
    """Return the full name of the operation to wait for, and until when by the wall clock."""
    asked = request.timeout.seconds + request.timeout.nanos / 1e9
    return _found(world, request.name).name, time.monotonic() + min(asked or WAIT_S, LONGEST_WAIT_S)


OPERATIONS = {
    ("Operations", "GetOperation"): get_operation,
    ("Operations", "ListOperations"): list_operations,
    ("Operations", "CancelOperation"): cancel_operation,
    ("Operations", "DeleteOperation"): delete_operation,
    ("Operations", "WaitOperation"): get_operation,
}
