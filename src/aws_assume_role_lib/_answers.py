"""What comes back from STS: an answer, complete and checked, or an error, described without a secret."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as ConnectionFailure
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from ._keys import is_sendable

# STS refuses a request that was signed with a clock that is further behind.
MAX_CLOCK_SKEW = timedelta(minutes=15)
# Nothing but the URL is in their text.
_SAFE_TO_QUOTE = (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
)


class BadAnswer(Exception):
    """What is missing from an answer."""


def check_answer(response: Mapping[str, Any]) -> tuple[datetime, float]:
    """Return the expiry and the lifetime of what a complete AssumeRole response grants, or raise BadAnswer."""
    granted = response.get("Credentials") or {}
    for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"):
        if not is_sendable(granted.get(name)):
            raise BadAnswer(f"no {name}")
    try:
        expires = granted["Expiration"]
        # A string is what the user's own timestamp parser has left.
        if not isinstance(expires, datetime):
            expires = parse_timestamp(expires)
        # STS sends a time zone; without one, a stand-in's answer would be taken for this machine's time.
        expires = expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)
        expires = (expires - _clock_skew(response)).astimezone(timezone.utc)
        return expires, expires.timestamp() - time.time()
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError):
        raise BadAnswer("no Expiration that is a time") from None


def _clock_skew(response: Mapping[str, Any]) -> timedelta:
    """How far this machine's clock is behind that of STS: it would take each expiry for that much later than it is."""
    # Nothing is added for a clock that is ahead: it may be set right at any time, and the keys only last longer.
    try:
        date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        skew = date - datetime.now(timezone.utc)
    except (KeyError, TypeError, ValueError):
        return timedelta()
    # A larger one is a stand-in's mistake, such as local time that is labelled GMT.
    return skew if timedelta() < skew <= MAX_CLOCK_SKEW else timedelta()


def is_from_parser(error: Exception) -> bool:
    """Whether botocore's parser raised it: on an answer that is not STS's, some are plain KeyErrors and ValueErrors."""
    if isinstance(error, (ResponseParserError, ClientError)):
        return isinstance(error, ResponseParserError)
    frame: TracebackType | None = error.__traceback__
    while frame:
        # botocore internal: the module's name. Where it has another, the error surfaces as it is. Covered by
        # tests/test_internals.py.
        if frame.tb_frame.f_globals.get("__name__") == ResponseParserError.__module__:
            return True
        frame = frame.tb_next
    return False


def not_sts(endpoint_url: str, error: Exception) -> CredentialRetrievalError:
    # botocore's parser quotes the answer, and half of one may hold the keys: only its own kind of error is named.
    reason = str(error) if isinstance(error, BadAnswer) else type(error).__name__
    return CredentialRetrievalError(
        provider="assume-role",
        error_msg=f"what answered for STS at {without_password(endpoint_url)} is not an AssumeRole response "
        f"({reason}). Look for a proxy or an endpoint URL that leads elsewhere.",
    )


def refusal_code(error: Exception) -> str:
    """The code with which STS has refused to assume a role; empty for any other error."""
    return _code(error) if isinstance(error, ClientError) and error.operation_name == "AssumeRole" else ""


def _code(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    # A stand-in's may be anything, such as several lines for our log.
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,64}", code) else ""


def message_of(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) if isinstance(error, ClientError) else ""


def in_one_line(error: Exception) -> str:
    """Describe an error without what the request contained: STS quotes it in some messages, and others may, too."""
    if isinstance(error, ClientError):
        return f"{error.operation_name} was answered with {_code(error) or 'an error'}"
    ours = isinstance(error, CredentialRetrievalError) and error.kwargs.get("provider") == "assume-role"
    if ours or isinstance(error, _SAFE_TO_QUOTE):
        return without_password(" ".join(str(error).split()).rstrip("."))
    return type(error).__name__


def without_password(text: str) -> str:
    """Remove what may precede the host in a URL."""
    return re.sub(r"://[^/@\s]*@", "://", text)


# What a request may contain, and the permission that it takes besides sts:AssumeRole.
_EXTRA_PERMISSIONS = {
    "Tags": "sts:TagSession",
    "SourceIdentity": "sts:SetSourceIdentity",
    "ProvidedContexts": "sts:SetContext",
}
# How STS's messages name who was denied what, and by which kind of policy. Nothing else of them is repeated.
_DENIED = re.compile(r"User: (?P<caller>arn:[\w+=,.@:/-]+) is not authorized to perform: (?P<action>sts:\w+)")
_CAUSE = re.compile(
    r"(?P<how>with an explicit deny in an?|because no) (?P<policy>(?:identity-based|resource-based|session|"
    r"service control|resource control|VPC endpoint) policy|permissions boundary)"
)
_SIDES = {
    "resource-based policy": "the role's trust policy",
    "resource control policy": "of the role's organization",
    "VPC endpoint policy": "of the way to STS",
}


def access_denied_note(message: str, request: Mapping[str, Any], source: str) -> str:
    """Say who may not assume which role, and where to look.

    Args:
        message: STS's text.
        request: The parameters of AssumeRole, of which only names are repeated, and the role.
        source: Who asked, where STS does not say.
    """
    if "MultiFactorAuthentication" in message:
        return (
            "STS rejected the MFA code. Use the current code of the caller's own device, which SerialNumber names; "
            "STS accepts each code only once."
        )
    denied, cause = _DENIED.search(message), _CAUSE.search(message)
    caller, action = (denied["caller"], denied["action"]) if denied else (source, "sts:AssumeRole")
    note = f"{caller} was denied {action} on {request['RoleArn']}."
    if cause:
        how = cause["how"].removeprefix("with ") if "deny" in cause["how"] else "no allow in any"
        side = _SIDES.get(cause["policy"], "on the caller's side")
        note += f" STS names the cause: {how} {cause['policy']} ({side})."
    note += (
        f" Look in two places: the caller's policies must allow {action} on this ARN, and the role's trust policy "
        "must allow it to this principal."
    )
    extra = [permission for name, permission in _EXTRA_PERMISSIONS.items() if request.get(name)]
    if extra:
        note += f" This request also needs {' and '.join(extra)} in both."
    note += (
        " If the trust policy requires an external ID, it must be the one that was sent."
        if "ExternalId" in request
        else " If the trust policy requires an external ID, pass ExternalId."
    )
    return note if "SerialNumber" in request else f"{note} If a policy requires MFA, pass SerialNumber."


def is_unreachable(error: Exception) -> bool:
    """Whether an error means that nothing answered, as opposed to an answer or a fault on this side."""
    return isinstance(error, (ConnectionFailure, ConnectionClosedError, ReadTimeoutError))


def add_note(error: Exception, note: str) -> None:
    """Add a line to the traceback of an error; Python shows it since 3.11, and our command line always does."""
    # add_note() is as new; the attribute that it sets may be set by hand.
    error.__dict__.setdefault("__notes__", []).append(note)
