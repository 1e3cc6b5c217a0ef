"""AWS's errors in our words."""

from __future__ import annotations

import pytest
from botocore import exceptions as botocore
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, ProviderFailed, UsageError, WrongCredentials
from mlscale.providers.sagemaker.failures import (
    AGAIN,
    failure_of,
    is_absent,
    is_there_already,
    reason_of_failure,
    variant_in,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/reviews"
QUOTA = (
    "The account-level service limit 'ml.m4.xlarge for endpoint usage' is 2 Instances, with current utilization of 2 "
    "Instances and a request delta of 3 Instances. Please use AWS Service Quotas to request an increase for this quota."
)
ASK_FOR_MORE = (
    "ask for more: aws service-quotas request-service-quota-increase --service-code sagemaker --region us-east-1 "
    "--desired-value 5 --quota-code $(aws service-quotas list-service-quotas --service-code sagemaker "
    "--region us-east-1 --output text "
    "--query \"Quotas[?QuotaName=='ml.m4.xlarge for endpoint usage'].QuotaCode\")"
)
NO_MACHINE = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
PING = (
    "The primary container for production variant a did not pass the ping health check. Please check CloudWatch logs "
    "for this endpoint."
)
NO_DATA = (
    'Failed to download model data for container "container_1" from URL: "s3://acme-ml/m.tar.gz". Please ensure that '
    "there is an object located at the URL and that the role passed to CreateModel has permissions to download the "
    "object."
)
NO_IMAGE = (
    "The role 'arn:aws:iam::123456789012:role/serving' does not have BatchGetImage permission for the image: "
    "'123456789012.dkr.ecr.us-east-1.amazonaws.com/reviews:1'."
)


def refused(code: str, message: str = "", status: int = 400, operation: str = "CreateModel") -> ClientError:
    """Return the error that boto3 raises for a service's answer."""
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, operation)


def told(error: MlscaleError) -> tuple[type[MlscaleError], str, bool]:
    """Return the kind of an error, what it says happened, and whether again may help."""
    return type(error), error.what, isinstance(error, ProviderFailed) and error.retryable


EXPIRED = (WrongCredentials, "the AWS credentials have expired", False)
UNKNOWN = (WrongCredentials, "AWS does not know these credentials", False)
CLOCK = (WrongCredentials, "AWS refuses this machine's clock", False)
DENIED = (WrongCredentials, "these credentials may not do this", False)
NONE = (WrongCredentials, "there are no AWS credentials", False)
UNREADABLE = (WrongCredentials, "the AWS credentials can't be read", False)
SLOW_DOWN = (ProviderFailed, "AWS asks to slow down", True)
BUSY = (ProviderFailed, "AWS is busy with an earlier change", True)
BROKEN = (ProviderFailed, "AWS has a problem of its own", True)
SILENT = (ProviderFailed, "AWS does not answer", True)
GARBLED = (ProviderFailed, "AWS's answer can't be read", True)
REFUSED = (ProviderFailed, "AWS refuses the request", False)
ABSENT = (ProviderFailed, "AWS has no such resource", False)
USED_UP = (NoCapacity, "an AWS quota is used up", False)
NO_SUCH_REGION = (UsageError, "AWS has no such region", False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused("ExpiredToken"), EXPIRED),
        (refused("ExpiredTokenException"), EXPIRED),
        (refused("TokenRefreshRequired"), EXPIRED),
        (refused("InvalidClientTokenId", status=403), UNKNOWN),
        (refused("UnrecognizedClientException"), UNKNOWN),
        (refused("InvalidAccessKeyId", status=403), UNKNOWN),
        (refused("SignatureDoesNotMatch", status=403), UNKNOWN),
        (refused("InvalidSignatureException", "The request signature we calculated does not match"), UNKNOWN),
        (refused("InvalidSignatureException", "Signature expired: 20261124T071500Z is now earlier than"), CLOCK),
        (refused("RequestTimeTooSkewed", status=403), CLOCK),
        (refused("AccessDenied", status=403), DENIED),
        (refused("AccessDeniedException"), DENIED),
        (refused("UnauthorizedOperation", status=403), DENIED),
        (refused("403", "Forbidden", 403, "HeadObject"), DENIED),
        (refused("OptInRequired", status=403), DENIED),
        (refused("ThrottlingException", "Rate exceeded"), SLOW_DOWN),
        (refused("Throttling", "Rate exceeded"), SLOW_DOWN),
        (refused("TooManyRequestsException", status=429), SLOW_DOWN),
        (refused("RequestLimitExceeded", status=503), SLOW_DOWN),
        (refused("SlowDown", status=503), SLOW_DOWN),
        (refused("PriorRequestNotComplete"), SLOW_DOWN),
        (refused("InternalFailure", status=500), BROKEN),
        (refused("InternalServiceFault"), BROKEN),
        (refused("ServiceUnavailable", status=503), BROKEN),
        (refused("RequestTimeout"), BROKEN),
        (refused("502", "Bad Gateway", 502), BROKEN),
        (refused("NotImplemented", status=501), REFUSED),
        (refused("ResourceInUse"), BUSY),
        (refused("ConflictException", status=409), BUSY),
        (refused("ConcurrentUpdateException"), BUSY),
        (refused("ValidationException", f'Cannot update in-progress endpoint "{ARN}".'), BUSY),
        (refused("ModelNotReadyException", status=429), (ProviderFailed, "the model is not loaded yet", True)),
        (refused("ModelError", status=424), (ProviderFailed, "the model answered with an error", False)),
        (refused("ResourceLimitExceeded", QUOTA), USED_UP),
        (refused("LimitExceededException"), USED_UP),
        (refused("InsufficientInstanceCapacity"), (NoCapacity, "AWS has no such machine free", False)),
        (refused("ValidationException", f'Could not find endpoint "{ARN}".'), ABSENT),
        (refused("NoSuchBucket", status=404), ABSENT),
        (
            refused("ValidationError", "Endpoint reviews of account 1 not found.", operation="InvokeEndpoint"),
            (NotDeployed, "nothing is deployed", False),
        ),
        (refused("ValidationException", NO_IMAGE), (ProviderFailed, "the image can't be pulled", False)),
        (
            refused("ValidationException", "Could not access model data at s3://acme-ml/m.tar.gz."),
            (ProviderFailed, "the model's files can't be read", False),
        ),
        (refused("ValidationException", "1 validation error detected"), REFUSED),
        (botocore.NoCredentialsError(), NONE),
        (botocore.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), UNREADABLE),
        (botocore.CredentialRetrievalError(provider="custom-process", error_msg="exit 1"), UNREADABLE),
        (botocore.ProfileNotFound(profile="prod"), UNREADABLE),
        (botocore.TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"), EXPIRED),
        (botocore.UnauthorizedSSOTokenError(), EXPIRED),
        (botocore.SSOTokenLoadError(error_msg="no token"), EXPIRED),
        (botocore.NoRegionError(), NO_SUCH_REGION),
        (botocore.InvalidRegionError(region_name="us east"), NO_SUCH_REGION),
        (botocore.EndpointConnectionError(endpoint_url="https://api.sagemaker"), SILENT),
        (botocore.ConnectTimeoutError(endpoint_url="https://api.sagemaker"), SILENT),
        (botocore.ReadTimeoutError(endpoint_url="https://api.sagemaker"), SILENT),
        (botocore.ConnectionClosedError(endpoint_url="https://api.sagemaker"), SILENT),
        (botocore.ResponseStreamingError(error="broken"), SILENT),
        (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), SILENT),
        (botocore.SSLError(endpoint_url="https://api.sagemaker", error="EOF occurred"), SILENT),
        (
            botocore.SSLError(endpoint_url="https://api.sagemaker", error="CERTIFICATE_VERIFY_FAILED"),
            (ProviderFailed, "the connection to AWS is not trusted", False),
        ),
        (botocore.ProxyConnectionError(proxy_url="http://proxy"), (ProviderFailed, "AWS can't be reached", True)),
        (ResponseParserError("not well-formed"), GARBLED),
    ],
    ids=lambda each: str(each) if isinstance(each, Exception) else "",
)
def test_an_error_has_its_kind_and_says_if_again_may_help(
    error: Exception, expected: tuple[type[MlscaleError], str, bool]
) -> None:
    """Credentials end with 9, capacity and quotas with 7; what passes by itself may be tried again, nothing else."""
    assert told(failure_of(error, "sagemaker:CreateModel")) == expected


@pytest.mark.parametrize(
    "error",
    [botocore.ParamValidationError(report="Missing required parameter"), botocore.UnknownServiceError(
        service_name="sagemakr", known_service_names="sagemaker"
    )],
    ids=["request", "service"],
)  # fmt: skip
def test_a_bug_of_ours_stays_what_it_is(error: Exception) -> None:
    """A request that the service's model doesn't allow is nothing that a user can act on."""
    with pytest.raises(type(error)) as raised:
        failure_of(error, "sagemaker:CreateModel")

    assert raised.value is error


def test_a_missing_permission_names_the_action() -> None:
    """Whoever grants permissions reads which one, for whom and on what."""
    message = f"User: arn:aws:iam::123456789012:user/ada is not authorized to perform this on resource: {ARN}"

    denied = failure_of(refused("AccessDeniedException", message), "sagemaker:DeleteEndpoint")

    assert denied.why == f"sagemaker:DeleteEndpoint: {message}"
    assert denied.hint == "mlscale iam policy says what is needed"


def test_an_answer_without_words_has_its_code() -> None:
    """A HEAD request has no body: its status is all there is to say."""
    denied = failure_of(refused("403", "", 403, "HeadObject"), "s3:GetObject")

    assert denied.why == "s3:GetObject: 403"


def test_a_quota_comes_with_the_command_that_asks_for_more() -> None:
    """The value asked for is what is in use and what was wanted besides; the code is looked up by the quota's name."""
    used_up = failure_of(refused("ResourceLimitExceeded", QUOTA), "sagemaker:CreateEndpoint", "us-east-1")

    assert (used_up.why, used_up.hint) == (f"sagemaker:CreateEndpoint: {QUOTA}", ASK_FOR_MORE)


def test_a_page_of_html_is_told_by_its_title() -> None:
    """A proxy's or server's error page does not fill the terminal."""
    page = "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>"

    broken = failure_of(refused("500", page, 500), "sagemaker:CreateModel")

    assert broken.why == "sagemaker:CreateModel: 500 Internal Server Error"
    assert broken.hint == AGAIN


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            refused(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match.\n\nThe Canonical String for this request should "
                "have been\n'POST\n/\n\nx-amz-security-token:FwoGZXIvYXdzEA\n'",
            ),
            "The request signature we calculated does not match.",
        ),
        (
            refused("InvalidAccessKeyId", "The AWS Access Key Id AKIAIOSFODNN7EXAMPLE does not exist in our records."),
            "The AWS Access Key Id [access key] does not exist in our records.",
        ),
        (
            refused("IncompleteSignature", "'AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/20261124/us-east-1'"),
            "'AWS4-HMAC-SHA256 Credential=[hidden]'",
        ),
        (
            refused("ValidationException", "s3.amazonaws.com/m?X-Amz-Security-Token=FwoG&X-Amz-Signature=0af1&x=1"),
            "s3.amazonaws.com/m?X-Amz-Security-Token=[hidden]&X-Amz-Signature=[hidden]&x=1",
        ),
        (
            botocore.CredentialRetrievalError(provider="process", error_msg='{"SecretAccessKey": "wJalrXUtnFEMI/K7"}'),
            'Error when retrieving credentials from process: {"SecretAccessKey": "[hidden]"}',
        ),
        (
            botocore.EndpointConnectionError(endpoint_url="https://ada:lovelace@api.example.com/"),
            'Could not connect to the endpoint URL: "https://[hidden]@api.example.com/"',
        ),
    ],
    ids=["canonical string", "key id", "header", "signed address", "credential process", "address"],
)
def test_a_secret_is_not_shown(error: Exception, why: str) -> None:
    """Errors go to terminals, logs and bug reports."""
    assert failure_of(error, "it").why == f"it: {why}"


def test_words_without_end_are_cut() -> None:
    """A service that repeats the request does not fill the terminal."""
    assert failure_of(refused("ValidationException", "a" * 10_000), "it").why == f"it: {'a' * 600} …"


@pytest.mark.parametrize(
    "error",
    [
        refused("ValidationException", f'Could not find endpoint "{ARN}".', operation="DescribeEndpoint"),
        refused("ValidationException", f'Could not find model "{ARN}".', operation="DeleteModel"),
        refused("ValidationError", "Endpoint reviews of account 1 not found.", operation="InvokeEndpoint"),
        refused("404", "Not Found", 404, "HeadObject"),
        refused("NoSuchKey", status=404, operation="GetObject"),
        refused("NoSuchBucket", status=404, operation="GetObject"),
        refused("NoSuchUpload", status=404, operation="AbortMultipartUpload"),
        refused("ObjectNotFoundException", operation="DeregisterScalableTarget"),
        refused("ResourceNotFound", status=404, operation="GetDashboard"),
        refused("DashboardNotFoundError", status=404, operation="DeleteDashboards"),
        refused("ResourceNotFoundException", operation="FilterLogEvents"),
        refused("NoSuchEntity", status=404, operation="GetRole"),
        refused("ImageNotFoundException", operation="DescribeImages"),
        refused("RepositoryNotFoundException", operation="DescribeImages"),
        refused("NoSuchResourceException", operation="GetServiceQuota"),
        refused("InvalidSubnetID.NotFound", operation="DescribeSubnets"),
    ],
    ids=str,
)
def test_what_a_service_says_is_not_there_is_absent(error: ClientError) -> None:
    """Each service has its own word for it."""
    assert is_absent(error)


@pytest.mark.parametrize(
    "error",
    [
        refused("ValidationException", "Value at 'endpointName' failed to satisfy constraint"),
        refused("404", "<html><title>404 Not Found</title>", 404, "ListTags"),
        refused("403", "Forbidden", 403, "HeadObject"),
        refused("AccessDeniedException", "Could not find out who you are"),
        refused("ThrottlingException"),
        botocore.NoCredentialsError(),
        botocore.DataNotFoundError(data_path="sagemaker"),
        None,
    ],
    ids=str,
)
def test_what_can_not_be_read_is_not_absent(error: Exception | None) -> None:
    """A denied, throttled or unknown request says nothing about what is there."""
    assert not is_absent(error)


def test_a_name_that_is_taken_is_told_from_other_refusals() -> None:
    """SageMaker has the same code for both."""
    taken = refused("ValidationException", f'Cannot create already existing endpoint "{ARN}".')

    assert is_there_already(taken)
    assert not is_there_already(refused("ValidationException", f'Could not find endpoint "{ARN}".'))
    assert not is_there_already(None)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            NO_MACHINE,
            NoCapacity(
                "AWS has no such machine free",
                why=NO_MACHINE,
                hint="name other types in endpoint.machine, too, or try again later",
            ),
        ),
        (QUOTA, NoCapacity("an AWS quota is used up", why=QUOTA, hint=ASK_FOR_MORE)),
        (PING, ProviderFailed("the model did not become healthy", why=PING, hint="mlscale logs")),
        (
            NO_IMAGE,
            ProviderFailed(
                "the image can't be pulled",
                why=NO_IMAGE,
                hint="mlscale doctor checks that the image is there and that sagemaker.role may pull it",
            ),
        ),
        (
            NO_DATA,
            ProviderFailed(
                "the model's files can't be read",
                why=NO_DATA,
                hint="mlscale doctor checks that sagemaker.role may read them, and that their bucket is in the same "
                "region",
            ),
        ),
        (
            "Request to service failed.",
            ProviderFailed(
                "SageMaker could not make the endpoint serve", why="Request to service failed.", hint="mlscale logs"
            ),
        ),
        (
            "",
            ProviderFailed(
                "SageMaker could not make the endpoint serve", why="SageMaker gives no reason", hint="mlscale logs"
            ),
        ),
    ],
    ids=["capacity", "quota", "ping", "image", "files", "other", "none"],
)
def test_an_endpoint_that_failed_says_why_and_what_to_do(reason: str, expected: NoCapacity | ProviderFailed) -> None:
    """The reason is SageMaker's own; none of them passes by itself."""
    failed = reason_of_failure(reason, "us-east-1")

    assert (told(failed), failed.why, failed.hint) == (told(expected), expected.why, expected.hint)


@pytest.mark.parametrize(
    ("reason", "variant"),
    [
        ("The primary container for production variant b did not pass the ping health check.", "b"),
        ("The primary container for production variant a-b did not pass the ping health check.", "a-b"),
        ("model for the production variant b, exist", "b"),
        ("Unable to provision requested ML compute capacity", ""),
    ],
)
def test_a_reason_names_the_variant_that_it_is_about(reason: str, variant: str) -> None:
    """Whose log is worth reading; where none is named, nobody's in particular."""
    assert variant_in(reason, ["a", "a-b", "b"]) == variant
