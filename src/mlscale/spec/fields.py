"""The values that keys of the spec take: how each is written, read and checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import core_schema

from mlscale.quantities import (
    DURATION_PATTERN,
    LATENCY_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    duration_of,
    duration_text,
    latency_of,
    latency_text,
    percent_of,
    percent_text,
    size_of,
    size_text,
)

NAME = r"[a-z](-?[a-z0-9]){0,39}"
LONGEST_NAME = 40
LONGEST_LABEL = 63
LONGEST_ADDRESS = 4096
LONGEST_DURATION = timedelta(days=366)
MOST_REPLICAS = 1000
LARGEST_BOUND = 1_000_000_000
SMALLEST_TARGET = 0.001
LEAST_CPUS, MOST_CPUS = 0.01, 4096
LEAST_MEMORY, MOST_MEMORY = 2**24, 2**46
MOST_GPUS = 64
MOST_ACCELERATORS = 16
"""No machine type of Google's has more."""
MOST_MACHINES = 5
"""An instance pool of SageMaker has no more."""
WHOLE_PERCENT = 100
LONGEST_LATENCY = timedelta(hours=1)
"""An async endpoint's request may take as long; no other may."""
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_OUR_VARIABLES = ("MLSCALE_", "AIP_", "SAGEMAKER_")
_SECRETS = ("env:", "aws-sm:", "gcp-sm:")
_LABEL_KEY = r"[a-z][a-z0-9_-]{0,62}"
_LABEL_VALUE = r"[\w .:/=+@-]*"
_ADDRESS = r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}|::[0-9a-f:]*"
_REFERENCE = r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}"
_SCHEME = r"([a-z][a-z0-9+.-]*)://|(registry):"
_MACHINE = r"[a-z0-9][a-z0-9.-]{0,62}"
AWS_REGION = r"[a-z]{2}(?:-[a-z]+){1,3}-[0-9]"
GOOGLE_REGION = r"[a-z]+-[a-z]+[0-9]{1,2}"
_REGION = rf"(?:{AWS_REGION}|{GOOGLE_REGION})"
AWS_ACCOUNT = r"[0-9]{12}"
PROJECT = r"(?:[a-z][a-z0-9.-]{0,62}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
_ACCOUNT = rf"(?:{AWS_ACCOUNT}|{PROJECT})"
_BUCKET = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?"
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+"
_TOPIC = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+"
_CHANNEL = r"projects/[a-z0-9][a-z0-9.:-]{0,92}/notificationChannels/[0-9]{1,32}"
_NOTIFIED = rf"(?:{_TOPIC}|{_CHANNEL})"
_SUBNET = r"subnet-[0-9a-zA-Z]{1,25}"
_SECURITY_GROUP = r"sg-[0-9a-zA-Z]{1,29}"
_HOST = r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253}"
_WEB = rf"https?://(?:{_HOST})(?::(?P<port>[0-9]{{1,5}}))?(?:[/?][!-\"$-~]*)?"
_WEB_HOOK = rf"(?:{_WEB.replace('?P<port>', '')}|env:{_VARIABLE})"
_SERVER = rf"(?:https?://(?:{_HOST})(?::[0-9]{{1,5}})?(?:/[!-\"$->@-~]*)?|env:{_VARIABLE})"
LONGEST_QUERY = 2000
"""CloudWatch takes 2,048 characters with the names in them (MetricDataQuery, API reference)."""
_LAST_PORT = 65535
_KEY = r"[A-Za-z0-9:/_-]{1,2048}"
_GOOGLE_BUCKET = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9!_.*'()/=-]*)?"
_SERVICE_ACCOUNT = r"[a-z0-9][a-z0-9-]{0,62}@[a-z0-9.-]{1,128}\.gserviceaccount\.com"
_GOOGLE_NETWORK = r"projects/[0-9]{1,20}/global/networks/[a-z][a-z0-9-]{0,62}"
_GOOGLE_KEY = (
    r"projects/[a-z0-9.:-]{1,93}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)
_TABLE = r"bq://[a-z0-9][a-z0-9:-]{0,92}(\.[a-z0-9:-]{1,92}){0,3}\.[A-Za-z0-9_]{1,1024}\.[A-Za-z0-9_-]{1,1024}"
_CRON_FIELDS = 5
_FIVE_FIELDS = r" *[^ ]+( +[^ ]+){4} *"
_CRON_WORDS = r"(?i)\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat|l)\b"
_CRON = r"[0-9*/,#? -]{9,100}"


def _version(value: object) -> object:
    if value in ("1", 1) and type(value) is not int:
        raise ValueError("the number 1 is needed, without quotes")
    return value


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration has a unit: write it like 30s, 10m or 1h30m")  # noqa: TRY004, pydantic's way
    duration = duration_of(value)
    if duration > LONGEST_DURATION:
        raise ValueError(f"{value} is too long: {LONGEST_DURATION.days} days at most")
    return duration


def _lasting(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("it must be more than 0s")
    return value


def _bound(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or not value.endswith("%"):
        return value
    if info.data.get("custom"):
        raise ValueError(f"{value} is a percentage, and a metric of your own is a number")
    if (metric := info.data.get("metric")) not in (None, "cpu", "gpu"):
        raise ValueError(f"{value} is a percentage, and {metric} is a number")
    return percent_of(value)


def _in_range(value: float) -> float:
    if not 0 <= value <= LARGEST_BOUND:
        raise ValueError(f"it must be 0 to {LARGEST_BOUND:,}")
    return value


def _reachable_target(value: float) -> float:
    if value < SMALLEST_TARGET:
        raise ValueError(f"it must be {SMALLEST_TARGET} at least")
    return value


def _latency(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a latency has a unit: write it like 500ms or 1.5s")  # noqa: TRY004, pydantic's way
    latency = latency_of(value)
    if latency > LONGEST_LATENCY:
        raise ValueError(f"{value} is too long: {duration_text(LONGEST_LATENCY)} at most")
    return latency


def _percentage(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a percentage has its sign: write it like 1%")  # noqa: TRY004, pydantic's way
    return percent_of(value)


def _share(value: float) -> float:
    if not 0 < value <= WHOLE_PERCENT:
        raise ValueError("it must be more than 0% and 100% at most")
    return value


class _Form:
    """How a value is written: read, checked and put into text again; `schema` is what an editor sees, None the usual.

    pydantic's own pieces of metadata say the same one by one, and it looks into each of them at every start.
    """

    def __init__(
        self,
        schema: dict[str, Any] | None,
        *checks: Callable[[Any], Any],
        read: Callable[[Any], Any] | None = None,
        text: Callable[[Any], str] | None = None,
    ) -> None:
        self._schema = schema
        self._checks = checks
        self._read = read
        self._text = text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        found = handler(source)
        if self._read is not None:
            written = None
            if self._text is not None:
                text = core_schema.str_schema()
                written = core_schema.plain_serializer_function_ser_schema(self._text, return_schema=text)
            found = core_schema.no_info_before_validator_function(self._read, found, serialization=written)
        for check in self._checks:
            found = core_schema.no_info_after_validator_function(check, found)
        return found

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) if self._schema is None else dict(self._schema)


def _text_like(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _like(pattern: str, noun: str, example: str, *more: Callable[[Any], Any], longest: int = 4096) -> _Form:
    """Return the form of a text that matches `pattern`; one that does not is told what it should be."""

    def check(value: str) -> str:
        if len(value) > longest:
            raise ValueError(f"it has {len(value):,} characters, {longest:,} at most")
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value[:60]!r} is no {noun}: write it like {example}")
        return value

    return _Form(_text_like(pattern), check, *more)


def _folder(place: str) -> str:
    return place.rstrip("/")


def _several(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _variable_name(name: str) -> str:
    if not re.fullmatch(_VARIABLE, name):
        raise ValueError("a variable's name has letters, digits and _, and does not begin with a digit")
    if name.startswith(_OUR_VARIABLES):
        raise ValueError(f"{name} is set by mlscale; choose another name")
    return name


def _variable_value(value: str) -> str:
    if value.startswith(_SECRETS):
        raise ValueError("a reference to a secret is not available in this version")
    return value


def _label_key(key: str) -> str:
    if not re.fullmatch(_LABEL_KEY, key):
        raise ValueError(f"lower-case letters, digits, _ and -, a letter first, {LONGEST_LABEL} characters at most")
    return key


def _label_value(value: str) -> str:
    if len(value) > LONGEST_LABEL:
        raise ValueError(f"it has {len(value)} characters, {LONGEST_LABEL} at most")
    if not re.fullmatch(_LABEL_VALUE, value):
        raise ValueError("letters, digits, spaces and _ . : / = + - @ only")
    return value


def _source(value: str) -> str:
    if found := re.match(_SCHEME, value):
        raise ValueError(
            f"a source from {found[1] or found[2]} is not available in this version; name a file or folder"
        )
    return value


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError("a size has a unit: write it like 512Mi or 4Gi")  # noqa: TRY004, pydantic's way
    return size_of(value) if isinstance(value, str) else value


def _memory(value: int) -> int:
    if not LEAST_MEMORY <= value <= MOST_MEMORY:
        raise ValueError(f"it must be {size_text(LEAST_MEMORY)} to {size_text(MOST_MEMORY)}")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(_ADDRESS, value):
        raise ValueError(f"{value[:60]!r} is no address")
    return value


def _workspace(value: str) -> str:
    found = re.match(_SCHEME, value)
    if found and found[1] not in ("s3", "gs"):
        raise ValueError("a workspace is a folder, s3:// or gs://")
    return value


def _cron(value: str) -> str:
    if not is_cron(value):
        raise ValueError(f"{value[:60]!r} is not a time of cron: five fields, like 0 8 * * MON-FRI")
    if not _comes(value):
        raise ValueError(f"{value!r} never comes")
    return value


def _web_hook(value: str) -> str:
    """Return an address, or the name of the variable that has it; what is none is not shown: it may be a secret."""
    if not is_web_address(value) and not re.fullmatch(rf"env:{_VARIABLE}", value):
        raise ValueError("this is no address: write it like https://example.com/hook, or env:NAME for a secret one")
    return value


def _server(value: str) -> str:
    if "?" in value:
        raise ValueError("this is no server: leave out what is asked of it, ? and all after it")
    return _web_hook(value)


def _token(value: str) -> str:
    if not re.fullmatch(rf"env:{_VARIABLE}", value):  # it is not shown: it may be the token
        raise ValueError("a token stands in a variable: write env:NAME")
    return value


def _query_with(variable: str) -> _Form:
    """Return the form of a query that names the revision by `variable`: without it both would get the same answer."""

    def check(value: str) -> str:
        if not re.search(rf"\${variable}\b", value):
            raise ValueError(f"it does not say ${variable}, so that both revisions would have the same numbers")
        return value

    schema = {"type": "string", "pattern": rf"\${variable}\b", "maxLength": LONGEST_QUERY}
    return _Form(schema, check)


def is_web_address(text: str) -> bool:
    """Return whether `text` is an address on the web without a user's name, as gates and web hooks have it."""
    found = re.fullmatch(_WEB, text)
    return found is not None and len(text) <= LONGEST_ADDRESS and int(found["port"] or 0) <= _LAST_PORT


def _told(value: str) -> str:
    return value if re.fullmatch(_TOPIC, value) else _web_hook(value)


def is_cron(text: str) -> bool:
    """Return whether `text` is a time in cron's five fields, without extensions that are random or hashed."""
    from croniter import croniter

    if len(text.split()) != _CRON_FIELDS or not re.fullmatch(_CRON, re.sub(_CRON_WORDS, "0", text)):
        return False
    try:
        return bool(croniter.is_valid(text))
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError):
        # croniter's own check lets the exceptions of its parser through for some texts.
        return False


def _comes(cron: str) -> bool:
    from datetime import UTC, datetime

    from croniter import CroniterBadDateError, croniter

    try:
        croniter(cron, datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        return False
    return True


def _timezone(value: str) -> str:
    from zoneinfo import ZoneInfo

    if value == "UTC":
        return value
    try:
        ZoneInfo(value)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"{value[:60]!r} is no time zone: use a name like Europe/Berlin") from None
    return value


# The words of deployment.Kind and deployment.Metric; a test holds that. Nothing else of that module is needed here, and
# making its dataclasses takes a twentieth of the time of `mlscale validate`.
Kind: TypeAlias = Literal["realtime", "serverless", "async"]
Metric: TypeAlias = Literal["invocations_per_replica", "concurrency", "cpu", "gpu", "queue_depth"]
AcceleratorType: TypeAlias = Literal[
    "nvidia-tesla-t4", "nvidia-tesla-p4", "nvidia-tesla-p100", "nvidia-tesla-v100", "nvidia-tesla-a100",
    "nvidia-a100-80gb", "nvidia-l4", "nvidia-h100-80gb", "nvidia-h100-mega-80gb", "nvidia-h200-141gb", "nvidia-b200",
    "nvidia-gb200", "nvidia-rtx-pro-6000",
]  # fmt: skip
Framework: TypeAlias = Literal[
    "onnx", "sklearn", "xgboost", "lightgbm", "pytorch", "tensorflow", "huggingface", "custom"
]

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Duration = Annotated[timedelta, _Form(_text_like(rf"(?=.){DURATION_PATTERN}"), read=_duration, text=duration_text)]
Lasting = Annotated[Duration, _Form(None, _lasting)]
Bound = Annotated[
    float,
    BeforeValidator(_bound),
    Field(allow_inf_nan=False),
    _Form(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": LARGEST_BOUND},
                {"type": "string", "pattern": f"^{PERCENT_PATTERN}$"},
            ]
        },
        _in_range,
    ),
]
Size = Annotated[int, _Form(_text_like(SIZE_PATTERN), _memory, read=_size, text=size_text)]
VariableName = Annotated[str, _Form(_text_like(_VARIABLE), _variable_name)]
VariableValue = Annotated[str, _Form(None, _variable_value)]
LabelKey = Annotated[str, _Form(_text_like(_LABEL_KEY), _label_key)]
LabelValue = Annotated[str, _Form({"type": "string", "maxLength": LONGEST_LABEL}, _label_value)]
Version = Annotated[Literal[1], _Form(None, read=_version)]
TargetValue = Annotated[Bound, _Form(None, _reachable_target)]
Cron = Annotated[str, _Form(_text_like(_FIVE_FIELDS), _cron)]
TimeZone = Annotated[str, _Form(None, _timezone)]
Image = Annotated[Text, _like(_REFERENCE, "image", "registry.example.com/ml/iris:1.2")]
Source = Annotated[Text, _Form(None, _source)]
Workspace = Annotated[Text, _Form(None, _workspace)]
Host = Annotated[str, _Form(None, _host)]
Latency = Annotated[timedelta, _Form(_text_like(LATENCY_PATTERN), _lasting, read=_latency, text=latency_text)]
Percentage = Annotated[float, _Form(_text_like(PERCENT_PATTERN), _share, read=_percentage, text=percent_text)]
BucketPlace = Annotated[str, _like(_BUCKET, "place in S3", "s3://bucket/folder", _folder, longest=512)]
RoleArn = Annotated[str, _like(_ROLE, "role", "arn:aws:iam::123456789012:role/sagemaker", longest=2048)]
TopicArn = Annotated[str, _like(_TOPIC, "topic", "arn:aws:sns:us-east-1:123456789012:ml", longest=1024)]
Notified = Annotated[
    str,
    _like(
        _NOTIFIED,
        "topic and no notification channel",
        "arn:aws:sns:us-east-1:123456789012:ml or projects/acme-ml/notificationChannels/123",
        longest=1024,
    ),
]
WebHook = Annotated[str, _Form(_text_like(_WEB_HOOK), _web_hook)]
Server = Annotated[str, _Form(_text_like(_SERVER), _server)]
Token = Annotated[str, _Form(_text_like(rf"env:{_VARIABLE}"), _token)]
PromQl = Annotated[str, Field(max_length=LONGEST_QUERY), _query_with("revision")]
CloudWatchExpression = Annotated[str, Field(max_length=LONGEST_QUERY), _query_with("variant")]
Told = Annotated[str, _Form(_text_like(rf"(?:{_TOPIC}|{_WEB_HOOK})"), _told)]
Region = Annotated[str, _like(_REGION, "region", "us-east-1 or us-central1")]
Account = Annotated[str, _like(_ACCOUNT, "account", '"123456789012" or acme-ml')]
Subnet = Annotated[str, _like(_SUBNET, "subnet", "subnet-0a1b2c3d4e5f60718")]
SecurityGroup = Annotated[str, _like(_SECURITY_GROUP, "security group", "sg-0a1b2c3d4e5f60718")]
EncryptionKey = Annotated[str, _like(_KEY, "key", "alias/ml, or its id or ARN")]
GooglePlace = Annotated[
    str, _like(_GOOGLE_BUCKET, "place in Cloud Storage", "gs://bucket/folder", _folder, longest=512)
]
ServiceAccount = Annotated[str, _like(_SERVICE_ACCOUNT, "service account", "serving@acme-ml.iam.gserviceaccount.com")]
GoogleNetwork = Annotated[
    str, _like(_GOOGLE_NETWORK, "network", "projects/123456789012/global/networks/ml, with the project's number")
]
GoogleKey = Annotated[
    str, _like(_GOOGLE_KEY, "key", "projects/acme-ml/locations/us-central1/keyRings/ml/cryptoKeys/serving")
]
Table = Annotated[str, _like(_TABLE, "table of BigQuery", "bq://project.dataset.table")]
Machine = Annotated[str, _like(_MACHINE, "machine type", "ml.c6i.xlarge or n1-standard-4")]
Machines = Annotated[
    tuple[Machine, ...],
    Field(max_length=MOST_MACHINES),
    _Form(
        {
            "anyOf": [
                _text_like(_MACHINE),
                {"type": "array", "items": _text_like(_MACHINE), "maxItems": MOST_MACHINES},
            ]
        },
        read=_several,
    ),
]
Capacity: TypeAlias = Literal["on_demand", "spot"]
Word = Annotated[str, Field(min_length=1, max_length=255)]
