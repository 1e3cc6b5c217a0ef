"""AWS's errors in our words, and what they say about whether something is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, ProviderFailed, UsageError, WrongCredentials

# Codes: "Common error types" and the "Errors" section of each operation in the API references of the services used, and
# botocore's own lists of throttling and transient errors (botocore/retries/standard.py).
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_UNKNOWN = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_LATE = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorized",
        "NotSignedUp",
        "OptInRequired",
        "SubscriptionRequiredException",
        "UnauthorizedOperation",
    }
)
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_TRANSIENT = frozenset(
    {
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "InternalServiceException",
        "InternalServiceFault",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
_BUSY = frozenset(
    {
        "ConcurrentModification",
        "ConcurrentModificationException",
        "ConcurrentUpdateException",
        "ConditionalRequestConflict",
        "ConflictException",
        "OperationAborted",
        "OperationAbortedException",
        "ResourceConflict",
        "ResourceInUse",
        "ResourceInUseException",
    }
)
_QUOTA = frozenset(
    {
        "LimitExceeded",
        "LimitExceededException",
        "LimitExceededFault",
        "QuotaExceededException",
        "ResourceLimitExceeded",
        "ServiceQuotaExceededException",
    }
)
_NO_MACHINE = frozenset({"CapacityError", "InsufficientCapacityException", "InsufficientInstanceCapacity"})
# botocore's own exceptions (botocore/exceptions.py).
_UNREADABLE = frozenset(
    {
        "ConfigNotFound",
        "ConfigParseError",
        "CredentialRetrievalError",
        "InvalidConfigError",
        "MetadataRetrievalError",
        "MissingDependencyException",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "UnknownCredentialError",
    }
)
_NO_REGION = frozenset(
    {
        "BaseEndpointResolverError",
        "EndpointProviderError",
        "InvalidRegionError",
        "ServiceNotInRegionError",
        "UnknownRegionError",
    }
)
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501

_ABSENT = re.compile(r"NoSuch\w+|[\w.]*NotFound(Exception|Error|Fault)?")
_ABSENT_TEXT = re.compile(r"Could not find |Endpoint \S+ of account \S+ not found")
"""SageMaker says so in words, with the code of any bad request: aws/amazon-sagemaker-examples#2402, #2339, #293."""

_THERE_TEXT = re.compile(r"Cannot create already existing ")
"""aws/sagemaker-python-sdk#101."""

_IN_PROGRESS_TEXT = re.compile(r"Cannot (update|delete) in-progress endpoint")
"""The words that the SageMaker service gives while an endpoint is Creating, Updating or Deleting."""

_QUOTA_TEXT = re.compile(
    r"service limit '(?P<quota>[^']+)' is (?P<limit>\d+) \w+, with current utilization of (?P<used>\d+) \w+ "
    r"and a request delta of (?P<more>\d+)"
)
"""aws/amazon-sagemaker-examples#307."""

_NO_MACHINE_TEXT = re.compile(r"InsufficientInstanceCapacity|CapacityError|Unable to provision requested ML compute")
"""aws/deep-learning-containers#6673, DIAGNijmegen/rse-grand-challenge#2631."""

_PING_TEXT = re.compile(r"did not pass the ping health check")

_IMAGE_TEXT = re.compile(
    r"BatchGetImage|GetDownloadUrlForLayer|Requested image .*not found|make sure all images included in the model"
)
"""aws/sagemaker-python-sdk#2002, #1835, aws/deep-learning-containers#5657."""

_MODEL_DATA_TEXT = re.compile(r"(Failed to (download|extract)|Could not (access|find)) model data")
"""aws-solutions-library-samples/fraud-detection-using-machine-learning#9, philschmid/llm-sagemaker-sample#2."""

_LONGEST_TEXT = 600
_HIDDEN = (
    (re.compile(r"(?i)(://)[^/@\s]+@"), r"\1[hidden]@"),
    (re.compile(r"(?i)\b(bearer )\S+"), r"\1[hidden]"),
    (
        re.compile(
            r"(?i)((?:token|signature|credential|secret\w*|access_?key\w*|password)\"?\s?[=:]\s?\"?)[^\s&\"',]+"
        ),
        r"\1[hidden]",
    ),
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{8,}\b"), "[access key]"),
)
"""What tells who a caller is: access key ids, user and password in an address, the parts of a signed query."""

AGAIN = "run the same command again; it goes on from here"


def failure_of(error: Exception, doing: str, region: str = "") -> MlscaleError:
    """Return the error that a user can act on for what botocore raised while `doing` something.

    `doing` is the action of IAM, `sagemaker:CreateModel`; `region` goes into the commands of hints.

    Raises:
        Exception: `error` itself, where it is a bug of ours (a request that the service's model does not allow).
    """
    answered = _answered(error)
    if answered is not None:
        return _refusal(answered, doing, region)
    return _unanswered(error, f"{doing}: {_clean(str(error))}")


def is_absent(error: BaseException | None) -> bool:
    """Return whether `error` is a service's word that what was named is not there."""
    answered = _answered(error)
    return answered is not None and answered.is_absent


def is_there_already(error: BaseException | None) -> bool:
    """Return whether `error` is SageMaker's word that there is one of that name."""
    answered = _answered(error)
    return answered is not None and _THERE_TEXT.search(answered.message) is not None


def variant_in(reason: str, variants: Sequence[str]) -> str:
    """Return which of an endpoint's variants a FailureReason is about; empty if it names none."""
    return next((each for each in variants if re.search(rf"variant {re.escape(each)}(?![\w-])", reason)), "")


def reason_of_failure(reason: str, region: str = "") -> NoCapacity | ProviderFailed:
    """Return the error for an endpoint that failed with `reason`, its FailureReason."""
    why = _clean(reason) or "SageMaker gives no reason"
    if _QUOTA_TEXT.search(reason):
        return _quota_used_up(reason, why, region)
    if _NO_MACHINE_TEXT.search(reason):
        return _no_machine(why)
    if _PING_TEXT.search(reason):
        return ProviderFailed("the model did not become healthy", why=why, hint="mlscale logs")
    if _IMAGE_TEXT.search(reason):
        return _no_image(why)
    if _MODEL_DATA_TEXT.search(reason):
        return _no_model_data(why)
    return ProviderFailed("SageMaker could not make the endpoint serve", why=why, hint="mlscale logs")


@dataclass(frozen=True, slots=True)
class _Answered:
    """An error that a service answered: its code, message, HTTP status, and the operation."""

    code: str
    message: str
    status: int
    operation: str

    @property
    def is_absent(self) -> bool:
        """Whether it says that what was named is not there; a HEAD request has no body to say it in."""
        if _ABSENT.fullmatch(self.code) or (self.code == "404" and self.operation.startswith("Head")):
            return True
        return self.code in ("ValidationException", "ValidationError") and bool(_ABSENT_TEXT.search(self.message))


def _answered(error: BaseException | None) -> _Answered | None:
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return None
    told = error.response.get("Error", {})
    return _Answered(
        code=str(told.get("Code", "")),
        message=str(told.get("Message", "")),
        status=int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
        operation=str(error.operation_name),
    )


def _refusal(answered: _Answered, doing: str, region: str) -> MlscaleError:
    code, message = answered.code, answered.message
    why = f"{doing}: {_clean(message) or code}"
    if code in _EXPIRED:
        return _expired(why)
    if code in _LATE or "Signature expired" in message or "Signature not yet current" in message:
        return WrongCredentials("AWS refuses this machine's clock", why=why, hint="set the clock, then try again")
    if code in _UNKNOWN:
        return WrongCredentials(
            "AWS does not know these credentials", why=why, hint="aws configure list says where they come from"
        )
    if code in _DENIED or (code == "403" and answered.operation.startswith("Head")):
        return WrongCredentials(
            "these credentials may not do this", why=why, hint="mlscale iam policy says what is needed"
        )
    if code in _QUOTA:
        return _quota_used_up(message, why, region)
    if code in _NO_MACHINE:
        return _no_machine(why)
    if code in _THROTTLED:
        return ProviderFailed("AWS asks to slow down", why=why, hint=AGAIN, retryable=True)
    if code in _BUSY or _IN_PROGRESS_TEXT.search(message):
        return ProviderFailed("AWS is busy with an earlier change", why=why, hint=AGAIN, retryable=True)
    if code == "ModelNotReadyException":
        return ProviderFailed("the model is not loaded yet", why=why, hint="try again", retryable=True)
    if code == "ModelError":
        return ProviderFailed("the model answered with an error", why=why, hint="mlscale logs")
    if code in _TRANSIENT or (answered.status >= _SERVER_ERROR and answered.status != _NOT_IMPLEMENTED):
        return ProviderFailed("AWS has a problem of its own", why=why, hint=AGAIN, retryable=True)
    if answered.operation.startswith("InvokeEndpoint") and answered.is_absent:
        return NotDeployed("nothing is deployed", why=why, hint="mlscale deploy")
    if _IMAGE_TEXT.search(message):
        return _no_image(why)
    if _MODEL_DATA_TEXT.search(message):
        return _no_model_data(why)
    if answered.is_absent:
        return ProviderFailed("AWS has no such resource", why=why, hint="mlscale plan")
    return ProviderFailed("AWS refuses the request", why=why, hint="mlscale doctor")


def _unanswered(error: Exception, why: str) -> MlscaleError:
    kinds = {kind.__name__ for kind in type(error).__mro__}  # by name: not every botocore has all of them
    if kinds & {"NoCredentialsError", "NoAuthTokenError"}:
        return WrongCredentials("there are no AWS credentials", why=why, hint="aws configure, or aws sso login")
    if kinds & {"UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError", "LoginError"}:
        return _expired(why)
    if kinds & _UNREADABLE:
        return WrongCredentials(
            "the AWS credentials can't be read", why=why, hint="aws configure list says where they come from"
        )
    if kinds & _NO_REGION:
        return UsageError("AWS has no such region", why=why, hint="correct region: in the spec, such as us-east-1")
    if "SSLError" in kinds and "certificate" in why.lower():
        return ProviderFailed(
            "the connection to AWS is not trusted",
            why=why,
            hint="put your network's certificate authority into a file, and its path into AWS_CA_BUNDLE",
        )
    if "ProxyConnectionError" in kinds:
        return ProviderFailed(
            "AWS can't be reached", why=why, hint="correct HTTPS_PROXY, or see that the proxy runs", retryable=True
        )
    if kinds & {"ConnectionError", "HTTPClientError", "IncompleteReadError"}:
        return ProviderFailed(
            "AWS does not answer", why=why, hint="see that its address can be reached", retryable=True
        )
    if kinds & {"ResponseParserError", "ChecksumError", "FlexibleChecksumError", "PaginationError"}:
        return ProviderFailed("AWS's answer can't be read", why=why, hint=AGAIN, retryable=True)
    raise error


def _expired(why: str) -> WrongCredentials:
    return WrongCredentials(
        "the AWS credentials have expired",
        why=why,
        hint="renew them (aws sso login, or as you got them), then run the same command again",
    )


def _no_machine(why: str) -> NoCapacity:
    return NoCapacity(
        "AWS has no such machine free", why=why, hint="name other types in endpoint.machine, too, or try again later"
    )


def _no_image(why: str) -> ProviderFailed:
    return ProviderFailed(
        "the image can't be pulled",
        why=why,
        hint="mlscale doctor checks that the image is there and that sagemaker.role may pull it",
    )


def _no_model_data(why: str) -> ProviderFailed:
    return ProviderFailed(
        "the model's files can't be read",
        why=why,
        hint="mlscale doctor checks that sagemaker.role may read them, and that their bucket is in the same region",
    )


def _quota_used_up(message: str, why: str, region: str) -> NoCapacity:
    found = _QUOTA_TEXT.search(message)
    if found is None:
        return NoCapacity(
            "an AWS quota is used up", why=why, hint="delete what is unused, or ask AWS for more in Service Quotas"
        )
    place = f"--service-code sagemaker{f' --region {region}' if region else ''}"
    code = (
        f"aws service-quotas list-service-quotas {place} --output text "
        f"--query \"Quotas[?QuotaName=='{found['quota']}'].QuotaCode\""
    )
    return NoCapacity(
        "an AWS quota is used up",
        why=why,
        hint=f"ask for more: aws service-quotas request-service-quota-increase {place} "
        f"--desired-value {int(found['used']) + int(found['more'])} --quota-code $({code})",
    )


def _clean(text: str) -> str:
    """Return what a service said as one line without secrets; a page of HTML as its title.

    What comes after an empty line is left out: there S3 repeats the request that it was signed, token included.
    """
    if re.search(r"(?i)<html|<!doctype", text):
        title = re.search(r"(?is)<title>(.*?)</title>", text)
        text = title[1] if title else "an answer in HTML"
    whole = " ".join(text.strip().partition("\n\n")[0].split())
    line = whole[:_LONGEST_TEXT]
    for pattern, instead in _HIDDEN:
        line = pattern.sub(instead, line)
    return line if len(whole) <= _LONGEST_TEXT else f"{line} …"
