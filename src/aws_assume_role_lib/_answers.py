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
        if not isinstance(granted.get(name), str) or not granted[name]:
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
        error_msg=f"what answered for STS at {endpoint_url} is not an AssumeRole response ({reason}). "
        "Look for a proxy or an endpoint URL that leads elsewhere.",
    )


def code_of(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def in_one_line(error: Exception) -> str:
    """Describe an error without what the request contained: STS quotes it in some messages, and others may, too."""
    if isinstance(error, ClientError):
        return f"{error.operation_name} was answered with {code_of(error) or 'an error'}"
    ours = isinstance(error, CredentialRetrievalError) and error.kwargs.get("provider") == "assume-role"
    if ours or isinstance(error, _SAFE_TO_QUOTE):
        return " ".join(str(error).split()).rstrip(".")
    return type(error).__name__


# What a request may contain, and the permission that it needs besides sts:AssumeRole.
_EXTRA_PERMISSIONS = {
    "Tags": "sts:TagSession",
    "SourceIdentity": "sts:SetSourceIdentity",
    "ProvidedContexts": "sts:SetContext",
}


def access_denied_note(error: ClientError, request: Mapping[str, Any], source: str) -> str:
    """Say who may not assume which role, and where to look. ``source`` is who asked if STS does not name them."""
    message = str(error.response.get("Error", {}).get("Message", ""))
    caller = re.search(r"User: (arn:[^\s]+)", message)
    side = re.search(r"(?:because no|with an explicit deny in an?) ([a-z -]+(?:policy|boundary))", message)
    note = (
        f"{caller[1] if caller else source} may not assume {request['RoleArn']}. Check two places: the caller's policies "
        "must allow sts:AssumeRole on this ARN, and the role's trust policy must name this principal."
    )
    if side:
        note += f" According to STS, the {side[1]} is the one that denies it."
    extra = [permission for name, permission in _EXTRA_PERMISSIONS.items() if request.get(name)]
    if extra:
        note += f" Both must also allow {' and '.join(extra)}, because of what was sent."
    if "ExternalId" in request:
        note += " The external ID that was sent must be the one in the trust policy."
    else:
        note += " If the trust policy has a condition on sts:ExternalId, pass ExternalId."
    if "SerialNumber" not in request:
        note += " If a policy requires MFA, pass SerialNumber."
    return note


def is_unreachable(error: Exception) -> bool:
    """Whether an error means that nothing answered, as opposed to an answer or a fault on this side."""
    return isinstance(error, (ConnectionFailure, ConnectionClosedError, ReadTimeoutError))


def add_note(error: Exception, note: str) -> None:
    """Add a line to the traceback of an error. Exceptions have notes since Python 3.11."""
    getattr(error, "add_note", str)(note)
