"""AssumeRole's parameters: friendly types in, API shapes out, everything checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from botocore.exceptions import ParamValidationError
from botocore.model import StructureShape
from botocore.validate import ParamValidator


class AutomaticRoleSessionName:
    """The type of :data:`AUTOMATIC_ROLE_SESSION_NAME`."""

    def __repr__(self) -> str:
        return "AUTOMATIC_ROLE_SESSION_NAME"


#: Given as ``RoleSessionName``: a generated name, even where there is a ``SourceIdentity``.
AUTOMATIC_ROLE_SESSION_NAME = AutomaticRoleSessionName()

# re compiles these at their first use, and keeps them: an import that compiled them would take twice as long.
_NAME = r"[A-Za-z0-9_+=,.@-]{2,64}"
_EXTERNAL_ID = r"[A-Za-z0-9_+=,.@:/-]{2,1224}"
# Printable ASCII, but no colon; and as many characters of it as STS takes.
_ROLE_ARN = r"(?=.{1,2048}\Z)arn:[!-9;-~]+:iam::(?P<account>[!-9;-~]*):role/[!-9;-~]*[!-.0-9;-~]"
_POLICY_ARN = r"(?=.{1,2048}\Z)arn:[!-9;-~]+:iam::[!-9;-~]*:policy/[!-9;-~]*[!-.0-9;-~]"
_CODE = r"[0-9]{6}"


def build_request(given: Mapping[str, Any], additional_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameters that are not None, in the API's shapes. What cannot be converted is left as it is."""
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
            # STS is asked later, when the caller may have changed the list for the next role.
            request[name] = [dict(item) if isinstance(item, Mapping) else item for item in value]
    if "SourceIdentity" in request:
        request.setdefault("RoleSessionName", request["SourceIdentity"])
    if isinstance(request.get("RoleSessionName"), AutomaticRoleSessionName):
        del request["RoleSessionName"]
    return request


def _duration(value: Any) -> Any:
    if not isinstance(value, timedelta):
        return _number(value)
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _number(value: Any) -> Any:
    # botocore sends str(), which is a name where the number is a member of an enum.
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _policy(value: Any) -> Any:
    try:
        document = json.loads(value, object_pairs_hook=unique) if isinstance(value, str) else value
        if not isinstance(document, Mapping):
            return value
        return json.dumps(document, separators=(",", ":"), default=_mapping)
    except (TypeError, ValueError, RecursionError):
        return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads(), which keeps the last where a policy has a key twice: a condition would be lost."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is there twice")
    return document


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _policy_arns(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return [{"arn": item} if isinstance(item, str) else item for item in value]


def _tags(value: Any) -> Any:
    return [{"Key": key, "Value": item} for key, item in value.items()] if isinstance(value, Mapping) else value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "DurationSeconds": _duration,
    "MinimumSessionTokenSize": _number,
    "Policy": _policy,
    "PolicyArns": _policy_arns,
    "Tags": _tags,
}


def check_session_name(name: Any) -> str:
    """Return a name that a callable RoleSessionName gave, or raise ParamValidationError."""
    problems = list(_name_problems("RoleSessionName", name))
    if problems:
        raise ParamValidationError(report=f"The callable given as RoleSessionName returned a bad name: {problems[0]}")
    assert isinstance(name, str)
    return name


def check_token_code(code: Any) -> str:
    """Return a code that a callable TokenCode gave, or raise ParamValidationError, which does not repeat it."""
    if list(_code_problems("TokenCode", code)):
        raise ParamValidationError(report="The callable given as TokenCode did not return a string of six digits.")
    assert isinstance(code, str)
    return code


def check_request(
    request: Mapping[str, Any], shape: StructureShape, *, parent_is_role: bool, parent_may_be_role: bool
) -> None:
    """Raise one ParamValidationError that names every problem of a request.

    Args:
        request: The request, as build_request() returns it.
        shape: botocore's AssumeRoleRequest.
        parent_is_role: The parent is an assumed role, for certain.
        parent_may_be_role: The parent may be one, and so pass on transitive tags.
    """
    has_code = "TokenCode" in request
    request = {
        name: value
        for name, value in request.items()
        if not (callable(value) and name in ("RoleSessionName", "TokenCode"))
    }
    problems = [
        (name, f"{name} has text that is not Unicode, or is too large to be sent.")
        for name, value in request.items()
        if not _can_be_sent(value)
    ]
    unsendable = dict(problems)
    if has_code and "SerialNumber" not in request:
        problems.append(
            (
                "TokenCode",
                "TokenCode needs SerialNumber, the serial number or ARN of the device that shows the code.",
            )
        )
    for name, check in _CHECKS.items():
        if name in request and name not in unsendable:
            problems += [(name, problem) for problem in check(name, request[name])]
    duration = request.get("DurationSeconds")
    if not any(name == "DurationSeconds" for name, _ in problems) and parent_is_role and (duration or 0) > 3600:
        problems.append(
            (
                "DurationSeconds",
                f"DurationSeconds is {duration}; STS grants at most 3600 to a role that is assumed by a role "
                "(role chaining). Leave it out, the credentials refresh themselves.",
            )
        )
    problems += [("TransitiveTagKeys", problem) for problem in _transitive_problems(request, parent_may_be_role)]
    named = {name for name, _ in problems}
    # What has been named already is left out: botocore would say it again, and with the value.
    rest = {name: value for name, value in request.items() if name not in named}
    report = ParamValidator().validate({"RoleArn": "x" * 20, "RoleSessionName": "xx", **rest}, shape)
    lines = [problem for _, problem in problems]
    if report.has_errors():
        lines.append(report.generate_report())
    if lines:
        raise ParamValidationError(report="\n".join(lines))


def _can_be_sent(value: Any) -> bool:
    # Half of a surrogate pair cannot be encoded; an int of 4300 digits, and a list of a thousand levels, have no
    # text, and no error could show them.
    try:
        json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True).encode()
    except (ValueError, RecursionError):
        return False
    return True


_Problems = Iterator[str]


def _role_arn_problems(name: str, value: Any) -> _Problems:
    match = re.fullmatch(_ROLE_ARN, value) if isinstance(value, str) else None
    if match is None:
        yield f"{name} is {value!r}; it must be the ARN of an IAM role, like arn:aws:iam::123456789012:role/Name."
    elif match["account"].isdecimal() and len(match["account"]) != 12:
        yield f"{name} is {value!r}; the account has {len(match['account'])} digits, AWS's have 12."


def _name_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value):
        yield f"{name} is {value!r}; it must be 2 to 64 characters of A-Z a-z 0-9 _ + = , . @ -."


def _duration_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, int) or isinstance(value, bool):
        yield f"{name} is {value!r}; it must be a whole number of seconds, as an int or a timedelta."
    elif not 900 <= value <= 43200:
        yield f"{name} is {value}; STS takes 900 to 43200 seconds, up to the maximum that the role allows."


def _policy_problems(name: str, value: Any) -> _Problems:
    try:
        # json.loads() takes bytes, which botocore does not, and whose error would show them.
        document = json.loads(value, object_pairs_hook=unique) if isinstance(value, str) else None
        # json.loads() takes NaN and Infinity, which are not JSON.
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        yield f"{name} must be a JSON object: a mapping of what JSON knows, or a string of JSON."
    elif len(value) > 2048:
        yield f"{name} has {len(value)} characters as compact JSON; STS takes 2048. Attach a managed policy instead."


def _policy_arns_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, (list, tuple)):
        yield f"{name} is {value!r}; it must be a list of policy ARNs."
        return
    if len(value) > 10:
        yield f"{name} has {len(value)} policies; STS takes 10."
    for item in value:
        arn = item.get("arn") if isinstance(item, Mapping) else item
        if not isinstance(arn, str) or not re.fullmatch(_POLICY_ARN, arn):
            yield f"{name} has {arn!r}; it must be an IAM policy's ARN, like arn:aws:iam::aws:policy/ReadOnlyAccess."


def _tags_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(tag, Mapping) and tag.keys() == {"Key", "Value"} for tag in value
    ):
        yield f'{name} must be a mapping, or a list of {{"Key": ..., "Value": ...}}.'
        return
    if len(value) > 50:
        yield f"{name} has {len(value)} tags; STS takes 50."
    seen = set()
    for tag in value:
        key, item = tag["Key"], tag["Value"]
        if not isinstance(key, str) or not 1 <= len(key) <= 128:
            yield f"{name} has the key {key!r}; a key must be a string of 1 to 128 characters."
        elif key.lower() in seen:
            yield f"{name} has the key {key!r} twice; upper and lower case are the same to STS."
        else:
            seen.add(key.lower())
        if not isinstance(item, str) or len(item) > 256:
            yield f"{name} has a value for {key!r} that is not a string of 0 to 256 characters."


def _transitive_keys_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, (list, tuple)) or not all(isinstance(key, str) for key in value):
        yield f"{name} is {value!r}; it must be a list of tag keys."
    elif len(value) > 50:
        yield f"{name} has {len(value)} keys; STS takes 50."


def _transitive_problems(request: Mapping[str, Any], parent_may_be_role: bool) -> _Problems:
    keys, tags = request.get("TransitiveTagKeys"), request.get("Tags", [])
    if parent_may_be_role or not isinstance(keys, (list, tuple)) or not isinstance(tags, (list, tuple)):
        return
    given = [tag.get("Key") for tag in tags if isinstance(tag, Mapping)]
    folded = {key.lower() for key in given if isinstance(key, str)}
    for key in keys:
        if isinstance(key, str) and key.lower() not in folded:
            yield (
                f"TransitiveTagKeys has {key!r}, which is no key of Tags and cannot come from the parent, which is "
                "no assumed role. Add the tag or drop the key."
            )


def _external_id_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, str) or not re.fullmatch(_EXTERNAL_ID, value):
        yield f"{name} must be a string of 2 to 1224 characters of A-Z a-z 0-9 _ + = , . @ : / -."


def _code_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, str) or not re.fullmatch(_CODE, value):
        yield f"{name} must be a string of six digits, or a callable that returns one."


def _contexts_problems(name: str, value: Any) -> _Problems:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(context, Mapping) and all(isinstance(text, str) for text in context.values()) for context in value
    ):
        yield f'{name} must be a list of {{"ProviderArn": ..., "ContextAssertion": ...}}.'
    elif len(value) > 5:
        yield f"{name} has {len(value)} contexts; STS takes 5."


def _token_size_problems(name: str, value: Any) -> _Problems:
    if isinstance(value, bool) or (isinstance(value, int) and value > 4096):
        yield f"{name} is {value}; STS takes 0 to 4096 bytes."


_CHECKS: dict[str, Callable[[str, Any], _Problems]] = {
    "RoleArn": _role_arn_problems,
    "RoleSessionName": _name_problems,
    "SourceIdentity": _name_problems,
    "DurationSeconds": _duration_problems,
    "Policy": _policy_problems,
    "PolicyArns": _policy_arns_problems,
    "Tags": _tags_problems,
    "TransitiveTagKeys": _transitive_keys_problems,
    "ExternalId": _external_id_problems,
    "TokenCode": _code_problems,
    "ProvidedContexts": _contexts_problems,
    "MinimumSessionTokenSize": _token_size_problems,
}
