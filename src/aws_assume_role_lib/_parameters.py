"""AssumeRole's parameters: friendly types in, API shapes out, everything checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import ParamValidationError
from botocore.model import StructureShape
from botocore.validate import ParamValidator

# Messages, by the name of the parameter that they are about.
Problems = dict[str, list[str]]


class AutomaticRoleSessionName:
    """The type of :data:`AUTOMATIC_ROLE_SESSION_NAME`."""

    def __repr__(self) -> str:
        return "AUTOMATIC_ROLE_SESSION_NAME"


#: Pass this as ``RoleSessionName`` to get a generated name even with a ``SourceIdentity``.
AUTOMATIC_ROLE_SESSION_NAME = AutomaticRoleSessionName()

# Strings, which re compiles on first use and caches: compiling them here would double the import time.
_NAME = r"[A-Za-z0-9_+=,.@-]{2,64}"
_EXTERNAL_ID = r"[A-Za-z0-9_+=,.@:/-]{2,1224}"
# Printable ASCII without colons, up to the length that STS accepts.
_ROLE_ARN = r"(?=.{1,2048}\Z)arn:[!-9;-~]+:iam::(?P<account>[!-9;-~]*):role/[!-9;-~]*[!-.0-9;-~]"
_POLICY_ARN = r"(?=.{1,2048}\Z)arn:[!-9;-~]+:iam::[!-9;-~]*:policy/[!-9;-~]*[!-.0-9;-~]"
_SERIAL_NUMBER = r"[A-Za-z0-9_+=/:,.@-]{9,256}"
_CODE = r"[0-9]{6}"


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
    if "SourceIdentity" in request:
        request.setdefault("RoleSessionName", request["SourceIdentity"])
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
        document = json.loads(value, object_pairs_hook=unique) if isinstance(value, str) else value
        if not isinstance(document, Mapping):
            return value
        return json.dumps(document, separators=(",", ":"), default=_mapping)
    except (TypeError, ValueError, RecursionError):
        return value


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
    return [{"arn": item} if isinstance(item, str) else item for item in value]


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
    problems = list(_name_problems("RoleSessionName", name))
    if problems:
        raise ParamValidationError(report=f"The callable given as RoleSessionName returned a bad name: {problems[0]}")
    assert isinstance(name, str)
    return name


def check_token_code(code: object) -> str:
    """Return the code from a callable TokenCode if it is valid, or raise ParamValidationError without repeating it."""
    if list(_code_problems("TokenCode", code)):
        raise ParamValidationError(report="The callable given as TokenCode did not return a string of six digits.")
    assert isinstance(code, str)
    return code


def check_request(request: Mapping[str, Any], shape: StructureShape) -> Problems:
    """Return those problems of a request that do not depend on the parent, by parameter.

    Args:
        request: The request, as build_request() returns it.
        shape: botocore's AssumeRoleRequest.
    """
    problems: Problems = {}
    if "TokenCode" in request and "SerialNumber" not in request:
        problems["TokenCode"] = [
            "TokenCode needs SerialNumber, the serial number or ARN of the device that shows the code."
        ]
    given = {
        name: value
        for name, value in request.items()
        if not (callable(value) and name in ("RoleSessionName", "TokenCode"))
    }
    for name, value in given.items():
        found = [f"{name} has text that is not Unicode, or is too large to be sent."]
        if _can_be_sent(value):
            found = list(_CHECKS[name](name, value)) if name in _CHECKS else []
        if found:
            problems[name] = problems.get(name, []) + found
    # Without the parameters that already have a problem: botocore would report them again, with their values.
    rest = {name: value for name, value in given.items() if name not in problems}
    report = ParamValidator().validate({"RoleArn": "x" * 20, "RoleSessionName": "xx", **rest}, shape)
    if report.has_errors():
        problems[""] = [report.generate_report()]
    return problems


def check_chaining(request: Mapping[str, Any], problems: Problems, parent_credentials: object) -> Problems:
    """Return ``problems`` plus those that depend on the parent. Its credentials are inspected, not fetched."""
    problems = dict(problems)
    # A value that check_request() has rejected can be anything.
    request = {name: value for name, value in request.items() if name not in problems}
    duration = request.get("DurationSeconds", 0)
    method = getattr(parent_credentials, "method", None)
    if method in ("assume-role", "assume-role-with-web-identity", "sso") and duration > 3600:
        problems["DurationSeconds"] = [
            f"DurationSeconds is {duration}; STS grants at most 3600 to a role that is assumed by a role "
            "(role chaining). Leave it out, the credentials refresh themselves."
        ]
    # Keys without a token belong to a user. All others may be a role's, which passes on its transitive tags.
    is_user = (
        isinstance(parent_credentials, Credentials)
        and not isinstance(parent_credentials, RefreshableCredentials)
        and parent_credentials.token is None
    )
    if is_user and "Tags" not in problems:
        keys = {tag["Key"].lower() for tag in request.get("Tags", [])}
        problems["TransitiveTagKeys"] = problems.get("TransitiveTagKeys", []) + [
            f"TransitiveTagKeys has {key!r}, which is not in Tags and cannot be inherited, because the parent is not "
            "an assumed role. Add the tag or drop the key."
            for key in request.get("TransitiveTagKeys", [])
            if key.lower() not in keys
        ]
    return problems


def raise_problems(problems: Problems) -> None:
    """Raise a ParamValidationError that lists all problems, if there are any."""
    lines = [line for each in problems.values() for line in each]
    if lines:
        raise ParamValidationError(report="\n".join(lines))


def _can_be_sent(value: object) -> bool:
    # Lone surrogates cannot be encoded. Ints of 4,300 digits and lists nested a thousand deep cannot be turned into
    # text, not even for an error message.
    try:
        json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True).encode()
    except (ValueError, RecursionError):
        return False
    return True


_Lines = Iterator[str]


def _role_arn_problems(name: str, value: object) -> _Lines:
    match = re.fullmatch(_ROLE_ARN, value) if isinstance(value, str) else None
    if match is None:
        yield f"{name} is {value!r}; it must be the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name."
    elif match["account"].isdecimal() and len(match["account"]) != 12:
        yield f"{name} is {value!r}; the account ID has {len(match['account'])} digits; it must have 12."


def _name_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value):
        yield f"{name} is {value!r}; it must be 2 to 64 characters of A-Z a-z 0-9 _ + = , . @ -."


def _duration_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, int) or isinstance(value, bool):
        yield f"{name} is {value!r}; it must be a whole number of seconds, as an int or a timedelta."
    elif not 900 <= value <= 43200:
        yield f"{name} is {value}; STS takes 900 to 43200 seconds, up to the maximum that the role allows."


def _policy_problems(name: str, value: object) -> _Lines:
    document, reason, text = None, "", ""
    try:
        # json.loads() accepts bytes, which botocore rejects with an error that repeats them.
        text = value if isinstance(value, str) else json.dumps(value, default=_mapping)
        document = json.loads(text, object_pairs_hook=unique)
        # json.loads() accepts NaN and Infinity, which are not JSON.
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        document, reason = None, f" ({error})"
    if not isinstance(document, dict):
        yield f"{name} must be a JSON object: a JSON-serializable mapping, or a string of JSON{reason}."
    elif len(text) > 2048:
        limit = "the STS limit is 2048. Attach a managed policy instead."
        yield f"{name} has {len(text)} characters as compact JSON; {limit}"


def _policy_arns_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, (list, tuple)):
        yield f"{name} is {value!r}; it must be a list of policy ARNs."
        return
    if len(value) > 10:
        yield f"{name} has {len(value)} policies; the STS limit is 10."
    for item in value:
        arn = item.get("arn") if isinstance(item, Mapping) else item
        if not isinstance(arn, str) or not re.fullmatch(_POLICY_ARN, arn):
            yield f"{name} has {arn!r}; it must be an IAM policy's ARN, like arn:aws:iam::aws:policy/ReadOnlyAccess."


def _tags_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(tag, Mapping) and tag.keys() == {"Key", "Value"} for tag in value
    ):
        yield f'{name} must be a mapping, or a list of {{"Key": ..., "Value": ...}}.'
        return
    if len(value) > 50:
        yield f"{name} has {len(value)} tags; the STS limit is 50."
    seen = set()
    for tag in value:
        key, item = tag["Key"], tag["Value"]
        if not isinstance(key, str) or not 1 <= len(key) <= 128:
            yield f"{name} has the key {key!r}; a key must be a string of 1 to 128 characters."
        elif key.lower() in seen:
            yield f"{name} has the key {key!r} twice; STS ignores case in tag keys."
        else:
            seen.add(key.lower())
        if not isinstance(item, str) or len(item) > 256:
            yield f"{name} has a value for {key!r} that is not a string of 0 to 256 characters."


def _transitive_keys_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, (list, tuple)) or not all(isinstance(key, str) for key in value):
        yield f"{name} is {value!r}; it must be a list of tag keys."
    elif len(value) > 50:
        yield f"{name} has {len(value)} keys; the STS limit is 50."


def _external_id_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, str) or not re.fullmatch(_EXTERNAL_ID, value):
        yield f"{name} must be a string of 2 to 1224 characters of A-Z a-z 0-9 _ + = , . @ : / -."


def _serial_number_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, str) or not re.fullmatch(_SERIAL_NUMBER, value):
        yield f"{name} is {value!r}; it must be 9 to 256 characters of A-Z a-z 0-9 _ + = / : , . @ -."


def _code_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, str) or not re.fullmatch(_CODE, value):
        yield f"{name} must be a string of six digits, or a callable that returns one."


def _contexts_problems(name: str, value: object) -> _Lines:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(context, Mapping) and all(isinstance(text, str) for text in context.values()) for context in value
    ):
        yield f'{name} must be a list of {{"ProviderArn": ..., "ContextAssertion": ...}}.'
    elif len(value) > 5:
        yield f"{name} has {len(value)} contexts; the STS limit is 5."


def _token_size_problems(name: str, value: object) -> _Lines:
    if isinstance(value, bool) or (isinstance(value, int) and value > 4096):
        yield f"{name} is {value}; it must be 0 to 4096 bytes."


_CHECKS: dict[str, Callable[[str, object], _Lines]] = {
    "RoleArn": _role_arn_problems,
    "RoleSessionName": _name_problems,
    "SourceIdentity": _name_problems,
    "DurationSeconds": _duration_problems,
    "Policy": _policy_problems,
    "PolicyArns": _policy_arns_problems,
    "Tags": _tags_problems,
    "TransitiveTagKeys": _transitive_keys_problems,
    "ExternalId": _external_id_problems,
    "SerialNumber": _serial_number_problems,
    "TokenCode": _code_problems,
    "ProvidedContexts": _contexts_problems,
    "MinimumSessionTokenSize": _token_size_problems,
}
