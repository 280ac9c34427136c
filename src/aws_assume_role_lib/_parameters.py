"""AssumeRole's parameters: friendly types in, API shapes out, everything checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import botocore
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import ParamValidationError
from botocore.model import ListShape, Shape, StringShape, StructureShape

from ._names import SESSION_NAME

# What is wrong with a request. Each line begins with the name of a parameter.
_Lines = Iterator[str]


class AutomaticRoleSessionName:
    """The type of :data:`AUTOMATIC_ROLE_SESSION_NAME`."""

    def __repr__(self) -> str:
        return "AUTOMATIC_ROLE_SESSION_NAME"


#: Pass this as ``RoleSessionName`` to get a generated name even with a ``SourceIdentity``.
AUTOMATIC_ROLE_SESSION_NAME = AutomaticRoleSessionName()

# What the model does not say of a string, by its name there: what it must match, and what that is. The patterns are
# strings because re compiles and caches them on first use; compiling them here would double the import time.
_FORMATS = {
    "RoleArn": (
        r"arn:[!-9;-~]+:iam::[!-9;-~]*:role/([!-~]*/)?[!-.0-9;-~]+",
        "the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name",
    ),
    "arn": (
        r"arn:[!-9;-~]+:iam::[!-9;-~]*:policy/([!-~]*/)?[!-.0-9;-~]+",
        "the ARN of an IAM policy, like arn:aws:iam::aws:policy/ReadOnlyAccess",
    ),
    "TokenCode": (r"[0-9]{6}", "a string of six digits"),
}
# What build_request() accepts besides the API's shapes.
_ALTERNATIVES = {
    "DurationSeconds": ", or a timedelta",
    "RoleSessionName": ", or a function that returns them",
    "Tags": ", or a mapping",
    "TokenCode": ", or a function that returns them",
}
# Their values are not repeated in messages.
_SECRET = ("ExternalId", "ProvidedContexts", "TokenCode")


def build_request(given: Mapping[str, object], additional_kwargs: Mapping[str, object] | None) -> dict[str, Any]:
    """Return the parameters that are not None, in the API's shapes. A value that cannot be converted is kept."""
    request = {name: value for name, value in given.items() if value is not None or name == "RoleArn"}
    for name, value in (additional_kwargs or {}).items():
        if name in request:
            raise TypeError(f"{name} is given twice: as an argument and in additional_kwargs. Give it once.")
        if value is not None:
            request[name] = value
    for name, convert in _CONVERSIONS.items():
        if name in request:
            request[name] = convert(request[name])
    for name, value in request.items():
        if isinstance(value, (list, tuple)):
            # Copied, because STS is called later, and the caller may modify the list for the next role.
            request[name] = [dict(item) if isinstance(item, Mapping) else item for item in value]
    identity = request.get("SourceIdentity")
    # An identity may be longer than a name, or invalid, and is then the only parameter to blame.
    if isinstance(identity, str) and re.fullmatch(SESSION_NAME, identity):
        request.setdefault("RoleSessionName", identity)
    if isinstance(request.get("RoleSessionName"), AutomaticRoleSessionName):
        del request["RoleSessionName"]
    return request


def _duration(value: object) -> object:
    if not isinstance(value, timedelta):
        return _number(value)
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _number(value: object) -> object:
    # botocore sends str(value), which for a member of an enum would be its name.
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _policy(value: object) -> object:
    try:
        return _compact(value)
    except (TypeError, ValueError, RecursionError):
        return value


def _compact(policy: object) -> str:
    document = json.loads(policy, object_pairs_hook=unique) if isinstance(policy, str) else policy
    if not isinstance(document, Mapping):
        raise TypeError(f"{type(document).__name__} is not an object")
    # By default, json accepts NaN and Infinity, which are not JSON.
    return json.dumps(document, separators=(",", ":"), default=_mapping, allow_nan=False)


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For json.loads(), which would keep the last of duplicate keys and so lose a condition of a policy."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is there twice")
    return document


def _mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _policy_arns(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        return value
    return [item if isinstance(item, Mapping) else {"arn": item} for item in value]


def _tags(value: object) -> object:
    return [{"Key": key, "Value": item} for key, item in value.items()] if isinstance(value, Mapping) else value


_CONVERSIONS: dict[str, Callable[[object], object]] = {
    "DurationSeconds": _duration,
    "MinimumSessionTokenSize": _number,
    "Policy": _policy,
    "PolicyArns": _policy_arns,
    "Tags": _tags,
}


def check_session_name(name: object) -> str:
    """Return the name from a callable RoleSessionName if it is valid, or raise ParamValidationError."""
    if isinstance(name, str) and re.fullmatch(SESSION_NAME, name):
        return name
    raise ParamValidationError(
        report=f"The callable given as RoleSessionName returned {name!r}; it must return 2 to 64 "
        "characters of [A-Za-z0-9_+=,.@-]."
    )


def check_token_code(code: object) -> str:
    """Return the code from a callable TokenCode if it is valid, or raise ParamValidationError without repeating it."""
    if isinstance(code, str) and re.fullmatch("[0-9]{6}", code):
        return code
    raise ParamValidationError(report="The callable given as TokenCode did not return a string of six digits.")


def check_request(request: Mapping[str, Any], shape: StructureShape) -> _Lines:
    """Yield those problems of a request that do not depend on the parent.

    Args:
        request: The request, as build_request() returns it.
        shape: botocore's AssumeRoleRequest. The limits are those that it states.
    """
    for name, value in request.items():
        is_called_later = callable(value) and name in ("RoleSessionName", "TokenCode")
        if not is_called_later:
            yield from _problems(name, value, shape)
        if name == "TokenCode" and "SerialNumber" not in request:
            yield "TokenCode needs SerialNumber, the serial number or ARN of the device that shows the code."


def check_chaining(request: Mapping[str, Any], problems: Sequence[str], parent_credentials: object) -> _Lines:
    """Yield those problems that depend on the parent. Its credentials are inspected, not fetched.

    Args:
        request: The request, as build_request() returns it.
        problems: What check_request() has said of it. Each line begins with a parameter, whose value can be anything.
        parent_credentials: The parent's.
    """
    invalid = {re.split(r"\W", line)[0] for line in problems}
    duration = 0 if "DurationSeconds" in invalid else request.get("DurationSeconds", 0)
    method = getattr(parent_credentials, "method", None)
    if method in ("assume-role", "assume-role-with-web-identity", "sso") and duration > 3600:
        yield (
            f"DurationSeconds is {duration}; it must be at most 3600 for a role that is assumed by a role "
            "(role chaining). Leave it out: the credentials refresh themselves."
        )
    # Keys without a token belong to a user. All others may be a role's, which passes on its transitive tags.
    is_user = (
        isinstance(parent_credentials, Credentials)
        and not isinstance(parent_credentials, RefreshableCredentials)
        and parent_credentials.token is None
    )
    if is_user and not invalid & {"Tags", "TransitiveTagKeys"}:
        keys = {tag["Key"].lower() for tag in request.get("Tags", [])}
        for key in request.get("TransitiveTagKeys", []):
            if key.lower() not in keys:
                yield (
                    f"TransitiveTagKeys has {key!r}, which is not in Tags and cannot be inherited, because the parent "
                    "is not an assumed role. Add the tag or drop the key."
                )


def raise_problems(problems: Sequence[str]) -> None:
    """Raise a ParamValidationError that lists all problems, if there are any."""
    if problems:
        raise ParamValidationError(report="\n".join(problems))


def _can_be_sent(value: object) -> bool:
    # Lone surrogates cannot be encoded. Ints of 4,300 digits and lists nested a thousand deep cannot be turned into
    # text, not even for an error message.
    try:
        json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _problems(name: str, value: object, shape: StructureShape) -> _Lines:
    if not _can_be_sent(value):
        yield f"{name} has text that is not Unicode, or is too large to be sent."
    elif name not in shape.members:
        yield f"{name} is not a parameter that botocore {botocore.__version__} knows. Correct it, or update botocore."
    elif isinstance(value, str) and not value and name != "RoleArn":
        yield f"{name} is an empty string; it must have a value or be None. Pass `value or None` if it may be unset."
    elif name == "Policy":
        yield from _policy_problems(value)
    else:
        yield from list(_shape_problems(name, value, shape.members[name])) or _further_problems(name, value)


def _shape_problems(path: str, value: object, shape: Shape) -> _Lines:
    """Compare a value, and what is in it, with its shape in botocore's model."""
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max", math.inf)
    limits = f"{low} to {high}" if "max" in shape.metadata else f"at least {low}"
    if isinstance(shape, StructureShape):
        if isinstance(value, Mapping) and set(shape.required_members) <= value.keys() <= shape.members.keys():
            for key, item in value.items():
                yield from _shape_problems(f"{path}.{key}", item, shape.members[key])
        else:
            yield _problem(path, value, f"a mapping with {' and '.join(shape.members)}")
    elif isinstance(shape, ListShape):
        if not isinstance(value, (list, tuple)):
            yield _problem(path, value, "a list")
        elif not low <= len(value) <= high:
            yield f"{path} has {len(value)} items; it must have {limits}."
        else:
            for index, item in enumerate(value):
                yield from _shape_problems(f"{path}[{index}]", item, shape.member)
    elif isinstance(shape, StringShape):
        characters = _characters(shape)
        expected = f"a string of {limits} characters" + (f" of {characters}" if characters else "")
        pattern, expected = _FORMATS.get(path.rpartition(".")[2], (rf"{characters or '(?s:.)'}*", expected))
        if not (isinstance(value, str) and low <= len(value) <= high and re.fullmatch(pattern, value)):
            yield _problem(path, value, expected)
    elif shape.type_name != "integer":
        pass  # AssumeRole has no other type yet; botocore checks it when it sends the request
    elif not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        yield _problem(path, value, f"a whole number, {limits}")


def _characters(shape: StringShape) -> str:
    """Return the characters that the model allows, as a set of a regular expression, or an empty string."""
    pattern = shape.metadata.get("pattern", "").replace(r"\w", "A-Za-z0-9_").replace(r"\d", "0-9").replace(r"\/", "/")
    # A pattern that is more than one set means something else in Python, or nothing.
    match = re.fullmatch(r"(\[[^\\\[\]]+\])[*+]", pattern)
    return match[1] if match else ""


def _problem(path: str, value: object, expected: str) -> str:
    is_secret = re.split(r"\W", path)[0] in _SECRET
    shown = "" if is_secret else f"is {value!r}; it "
    return f"{path} {shown}must be {expected}{_ALTERNATIVES.get(path, '')}."


def _policy_problems(policy: object) -> _Lines:
    try:
        length = len(_compact(policy))
    except (TypeError, ValueError, RecursionError) as error:
        yield f"Policy must be a JSON object: a JSON-serializable mapping, or a string of JSON ({error})."
    else:
        if length > 2048:
            yield f"Policy has {length} characters as compact JSON; it must have at most 2048. Attach a managed policy."


def _further_problems(name: str, value: Any) -> _Lines:  # noqa: ANN401  # what the model says
    """Check what the model does not say, of a value that is as it says."""
    if name == "RoleArn":
        account = value.split(":")[4]
        if account.isdecimal() and len(account) != 12:
            yield f"RoleArn is {value!r}; the account ID has {len(account)} digits; it must have 12."
    elif name == "PolicyArns" and len(value) > 10:
        yield f"PolicyArns has {len(value)} items; it must have at most 10."
    elif name == "Tags":
        keys = [tag["Key"].lower() for tag in value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                yield f"Tags has the key {value[index]['Key']!r} twice; STS ignores case in tag keys. Drop one."
