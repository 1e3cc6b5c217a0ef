"""What mlscale's serving code needs of orjson, by the standard library: for containers that don't have it."""

import json
import math
from json import JSONDecodeError

OPT_NON_STR_KEYS = 1
OPT_SERIALIZE_NUMPY = 2


def loads(body):
    try:
        return json.loads(body.decode(), parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise JSONDecodeError("str is not valid UTF-8", "", 0) from error


def no_constant(name):
    raise JSONDecodeError(f"{name} is not JSON", name, 0)


def dumps(value, default=None, option=0):
    plain = as_plain(value, default, bool(option & OPT_NON_STR_KEYS))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def as_plain(value, default, any_keys):
    """Return a value as JSON has it: what is no number becomes null, as orjson has it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key_of(key, any_keys): as_plain(each, default, any_keys) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each, default, any_keys) for each in value]
    if hasattr(value, "dtype"):
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:  # 0.1 shall be 0.1, not 0.10000000149011612
            value = value.astype("float32").astype("U32").astype("float64")
        return as_plain(value.tolist(), default, any_keys)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if default is None:
        raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
    return as_plain(default(value), default, any_keys)


def key_of(key, any_keys):
    if isinstance(key, str):
        return key
    if not any_keys:
        raise TypeError("Dict key must be str")
    return key if key is None or isinstance(key, bool | int | float) else str(key)
