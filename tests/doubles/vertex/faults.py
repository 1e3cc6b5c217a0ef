"""How the faults that a test wants are worded here; which call is hit is decided as in the AWS double."""

from __future__ import annotations

import grpc

from tests.doubles.aws.faults import Fault
from tests.doubles.vertex.call import Call

DROPPED = "Socket closed"
"""What a client says of a connection that ended under a call."""

STATUS = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 412, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500,
    "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
"""HTTP's status of each code, for Cloud Storage (google/rpc/code.proto)."""


def worded(fault: Fault, call: Call) -> tuple[str, str]:
    """Return code and message of a fault."""
    match fault.kind:
        case "throttle":
            # rule fault.throttle
            metric = f"Quota exceeded for quota metric '{call.operation} requests' of service."
            return "RESOURCE_EXHAUSTED", metric
        case "500":
            # rule fault.internal
            return "INTERNAL", "Internal error encountered."
        case "503":
            # rule fault.unavailable
            return "UNAVAILABLE", "The service is currently unavailable."
        case "expired":
            # rule fault.unauthenticated
            return "UNAUTHENTICATED", (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
            )
        case "access_denied":
            # rule fault.denied
            return "PERMISSION_DENIED", f"Permission '{permission(call)}' denied on resource (or it may not exist)."
        case _:
            code = fault.code if hasattr(grpc.StatusCode, fault.code) else "INTERNAL"
            return code, fault.message


def permission(call: Call) -> str:
    """Return what IAM calls a method, as far as the names follow the pattern."""
    verbs = ("create", "get", "list", "update", "delete", "deploy", "undeploy", "upload", "mutate", "cancel")
    operation = call.operation[:1].lower() + call.operation[1:]
    verb = next((each for each in verbs if operation.startswith(each)), operation)
    noun = operation.removeprefix(verb) or call.service.removesuffix("Service")
    noun = noun[:1].lower() + noun[1:]
    return f"aiplatform.{noun if noun.endswith('s') else noun + 's'}.{verb}"
