"""How the faults that a test wants are worded here; which call is hit is decided as in the AWS double."""

from __future__ import annotations

import re

import grpc

from tests.doubles.aws.faults import Fault
from tests.doubles.vertex.call import Call

HOST = "aiplatform.googleapis.com"
DROPPED = "Socket closed"
"""What a client says of a connection that ended under a call."""

STATUS = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 412, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500,
    "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
"""HTTP's status of each code, for Cloud Storage (google/rpc/code.proto)."""

STORED = {"UNAUTHENTICATED": "AuthenticationRequired", "PERMISSION_DENIED": "AccessDenied"}
"""What Cloud Storage's XML API says instead; of other codes obstore passes on the status alone."""


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
            words = f"Permission '{permission(call)}' denied on resource '//{HOST}' (or it may not exist)."
            return "PERMISSION_DENIED", words
        case _:
            code = fault.code if hasattr(grpc.StatusCode, fault.code) else "INTERNAL"
            return code, fault.message


SPECIAL = {
    "UpdateEndpointLongRunning": "aiplatform.endpoints.update",
    "DeployModel": "aiplatform.endpoints.deploy",
    "UndeployModel": "aiplatform.endpoints.undeploy",
    "MutateDeployedModel": "aiplatform.endpoints.deploy",
    "Predict": "aiplatform.endpoints.predict",
    "RawPredict": "aiplatform.endpoints.predict",
    "UploadModel": "aiplatform.models.upload",
    "ListTimeSeries": "monitoring.timeSeries.list",
    "CreateTimeSeries": "monitoring.timeSeries.create",
    "ListLogEntries": "logging.logEntries.list",
    "WriteLogEntries": "logging.logEntries.create",
    "GetProject": "resourcemanager.projects.get",
    "GetBucket": "storage.buckets.get",
    "CreateBucket": "storage.buckets.create",
    "GetObject": "storage.objects.get",
    "HeadObject": "storage.objects.get",
    "ListObjects": "storage.objects.list",
    "PutObject": "storage.objects.create",
    "StartUpload": "storage.objects.create",
    "PutPart": "storage.objects.create",
    "CompleteUpload": "storage.objects.create",
    "DeleteObject": "storage.objects.delete",
}
"""Permissions of operations whose names do not say them."""

OWNERS = {
    "AlertPolicyService": "monitoring",
    "NotificationChannelService": "monitoring",
    "DashboardsService": "monitoring",
    "LoggingServiceV2": "logging",
}
"""What the permissions of a service begin with, if not with Vertex AI's name."""


def permission(call: Call) -> str:
    """Return the permission that a call needs; empty for one that needs none."""
    # rule iam.permission
    if call.operation in SPECIAL:
        return SPECIAL[call.operation]
    found = re.fullmatch(r"(Create|Get|List|Update|Delete|Cancel)(\w+)", call.operation)
    if found is None or call.service in {"Operations", "Locations"}:
        return ""
    noun = found[2][0].lower() + found[2][1:]
    plural = noun if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{OWNERS.get(call.service, 'aiplatform')}.{plural}.{found[1].lower()}"
