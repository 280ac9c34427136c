"""Checks STS responses, and describes errors without revealing a secret."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions
from botocore.exceptions import ClientError, CredentialRetrievalError
from botocore.hooks import HierarchicalEmitter
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from ._keys import KEY_NAMES, Keys, is_sendable

# STS rejects a request whose signer's clock is further behind.
MAX_CLOCK_SKEW = timedelta(minutes=15)
# Their messages contain only the URL.
_SAFE_TO_QUOTE = (
    exceptions.ConnectionClosedError,
    exceptions.ConnectTimeoutError,
    exceptions.EndpointConnectionError,
    exceptions.ProxyConnectionError,
    exceptions.ReadTimeoutError,
)


def granted_keys(response: Mapping[str, Any], granted_for: str, endpoint_url: str) -> Keys:
    """Return the keys that a complete AssumeRole response grants, or raise CredentialRetrievalError."""
    granted = response.get("Credentials") or {}
    for name in KEY_NAMES:
        if not is_sendable(granted.get(name)):
            raise not_sts(endpoint_url, f"no {name}") from None
    try:
        expires = granted["Expiration"]
        # The caller may have configured botocore to leave timestamps as strings.
        if not isinstance(expires, datetime):
            expires = parse_timestamp(expires)
        # STS always sends a time zone. If another implementation omits it, Python would assume local time.
        expires = expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)
        expires = (expires - _clock_skew(response)).astimezone(timezone.utc)
        lifetime = expires.timestamp() - time.time()
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError):
        raise not_sts(endpoint_url, "no valid Expiration") from None
    arn = str((response.get("AssumedRoleUser") or {}).get("Arn", ""))
    account_id = "".join(arn.split(":")[4:5]) or None
    access_key, secret_key, token = (granted[name] for name in KEY_NAMES)
    return Keys(access_key, secret_key, token, account_id, expires, lifetime, granted_for)


def _clock_skew(response: Mapping[str, Any]) -> timedelta:
    """How far this machine's clock is behind STS's, and by how much it would overestimate each lifetime."""
    # A clock that is ahead is not compensated for: it may be corrected at any time, and it only makes keys last longer.
    try:
        date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        skew = date - datetime.now(timezone.utc)
    except (KeyError, TypeError, ValueError):
        return timedelta()
    # A larger skew is another STS implementation's mistake, such as local time labelled GMT.
    return skew if timedelta() < skew <= MAX_CLOCK_SKEW else timedelta()


def is_from_parser(error: Exception) -> bool:
    """Whether botocore's parser raised this, for the response to the call itself and not to one made by a handler.

    If the response is not from STS, the error may be a KeyError or ValueError.
    """
    return ResponseParserError.__module__ in _modules(error) and not is_from_handler(error)


def is_from_handler(error: Exception) -> bool:
    """Whether the error was raised while an event handler ran. botocore's own, too, raise some connection errors."""
    return HierarchicalEmitter.__module__ in _modules(error)


def _modules(error: Exception) -> set[object]:
    # botocore internals: the modules of its parser and of what calls handlers. If they change, the parser's error
    # propagates as it is, and a handler's error is taken for STS's. Covered by tests/test_internals.py.
    return {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}


def not_sts(endpoint_url: str, reason: str) -> CredentialRetrievalError:
    return CredentialRetrievalError(
        provider="assume-role",
        error_msg=f"the response from {without_password(endpoint_url)} is not an AssumeRole response ({reason}). "
        "Check for a proxy or an endpoint URL that is not STS's.",
    )


def refusal_code(error: Exception) -> str:
    """Return the error code of a refused AssumeRole, or an empty string for any other error."""
    return _code(error) if isinstance(error, ClientError) and error.operation_name == "AssumeRole" else ""


def _code(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    # Something other than STS may send anything, such as several lines that would end up in our log.
    return code if re.fullmatch(r"[A-Za-z0-9.]{1,64}", code) else ""


def message_of(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) if isinstance(error, ClientError) else ""


def in_one_line(error: Exception) -> str:
    """Describe an error without repeating the request, which STS and others quote in some messages."""
    if isinstance(error, ClientError):
        return f"{error.operation_name} failed with {_code(error) or 'an error'}"
    ours = isinstance(error, CredentialRetrievalError) and error.kwargs.get("provider") == "assume-role"
    if ours or isinstance(error, _SAFE_TO_QUOTE):
        return without_password(" ".join(str(error).split()).rstrip("."))
    return type(error).__name__


def without_password(text: str) -> str:
    """Remove the user name and password from URLs."""
    return re.sub(r"://[^/\s]*@", "://", text)


# Parameters that require a permission besides sts:AssumeRole.
_EXTRA_PERMISSIONS = {
    "Tags": "sts:TagSession",
    "SourceIdentity": "sts:SetSourceIdentity",
    "ProvidedContexts": "sts:SetContext",
}
# Where STS's messages name the caller, the action and the kind of policy. Nothing else in them is repeated.
_DENIED = re.compile(r"User: (?P<caller>arn:[\w+=,.@:/-]+) is not authorized to perform: (?P<action>sts:\w+)")
_CAUSE = re.compile(
    r"(?P<how>with an explicit deny in (?:an?|the)|because no) (?P<policy>(?:identity-based|role trust|"
    r"resource-based|session|service control|resource control|VPC endpoint) policy|permissions boundary)"
)
_SIDES = {
    "role trust policy": "on the role's side",
    "resource-based policy": "the role's trust policy",
    "resource control policy": "of the role's organization",
    "VPC endpoint policy": "between the caller and STS",
}


# STS's error codes that mean a problem with the keys that signed the request, not with the role.
BAD_KEYS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)


def note_for(error: Exception, request: Mapping[str, Any], source: str, is_from_file: bool) -> str | None:
    """Return what to check after a failed AssumeRole, or None if the error itself says so.

    Args:
        error: What the call raised.
        request: The parameters of AssumeRole. Only their names and the role are repeated.
        source: Whose credentials signed the request, for messages.
        is_from_file: Whether these are static keys from a file, which has been read again.
    """
    # First, because botocore's legacy retries raise connection errors in a handler.
    if is_unreachable(error):
        return "Check the network first: DNS, proxy, firewall, VPC endpoint, and the endpoint URL if one is set."
    if is_from_handler(error):
        return None
    code, message = refusal_code(error), message_of(error)
    if "MultiFactorAuthentication" in message:
        return (
            "STS rejected the MFA code. Use the current code of the caller's own device, which SerialNumber names; "
            "STS accepts each code only once."
        )
    if code == "AccessDenied":
        return _access_denied_note(message, request, source)
    if code == "ExpiredToken":
        if is_from_file:
            return (
                f"The keys of {source} have expired. The file was read again and has the same keys: renew them there."
            )
        return f"The parent's credentials have expired. Renew them at their source: {source}."
    if code == "InvalidClientTokenId":
        return (
            f"STS does not know the parent's keys ({source}). Check that they exist and are active. In an opt-in "
            "region, temporary keys from the global endpoint do not work: get them with "
            "AWS_STS_REGIONAL_ENDPOINTS=regional."
        )
    if "DurationSeconds exceeds" in message:
        return (
            "Leave DurationSeconds out, because the session refreshes its credentials by itself, or raise the role's "
            "maximum session duration."
        )
    return None


def _access_denied_note(message: str, request: Mapping[str, Any], source: str) -> str:
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
    """Whether an error means that nothing responded, as opposed to an error response or a local error."""
    return isinstance(
        error, (exceptions.ConnectionError, exceptions.ConnectionClosedError, exceptions.ReadTimeoutError)
    )


def add_note(error: Exception, note: str) -> None:
    """Add a line to an error's traceback, shown by Python 3.11 and later, and always by our command line."""
    # Python 3.10 has no add_note(), so this sets the attribute itself.
    error.__dict__.setdefault("__notes__", []).append(note)
