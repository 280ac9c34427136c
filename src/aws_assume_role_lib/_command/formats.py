"""How credentials are printed. The formats have the AWS CLI's names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

from .._keys import ExportedCredentials
from .environment import PRINTED, credential_variables, environment_variables

_Format = Callable[[ExportedCredentials, str], str]


def _shell(remove: str, line: str, quote: Callable[[str], str]) -> _Format:
    """Return a format that makes a shell act as the role.

    Args:
        remove: The line that removes a variable which would give some SDK other credentials.
        line: The line that sets a variable.
        quote: Quotes a value.
    """

    def write(keys: ExportedCredentials, role_arn: str) -> str:
        # With the role's name, a later run can say whose keys it finds in the environment.
        variables = environment_variables(keys) | {PRINTED: f"{keys.access_key}:{role_arn}"}
        others = [name for name in credential_variables() if name.isidentifier() and name not in variables]
        lines = [remove.format(name) for name in others]
        lines += [line.format(name, quote(value)) for name, value in variables.items()]
        return "".join(each + "\n" for each in lines)

    return write


def _escaping(characters: str, escape: str) -> Callable[[str], str]:
    return lambda value: "".join(escape + each if each in characters else each for each in value)


def _process(keys: ExportedCredentials, role_arn: str) -> str:
    document = {
        "Version": 1,
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "SessionToken": keys.token,
        "Expiration": keys.expiry.isoformat(timespec="seconds"),
    }
    return json.dumps(document | ({"AccountId": keys.account_id} if keys.account_id else {}), indent=2) + "\n"


def _no_export(keys: ExportedCredentials, role_arn: str) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment_variables(keys).items())


def plain(keys: ExportedCredentials, role_arn: str) -> str:
    """Return the output of versions without ``--format``, for scripts that parse it."""
    return (
        f"AWS_ACCESS_KEY_ID={keys.access_key}\nAWS_SECRET_ACCESS_KEY={keys.secret_key}\n"
        f"AWS_SESSION_TOKEN={keys.token}\nAWS_CREDENTIALS_EXPIRATION={keys.expiry:%Y-%m-%dT%H:%M:%SZ}\n"
    )


FORMATS: dict[str, _Format] = {
    "process": _process,
    "env": _shell("unset {}", "export {}={}", shlex.quote),
    "env-no-export": _no_export,
    "powershell": _shell("Remove-Item Env:{}", '$Env:{}="{}"', _escaping('`"$', "`")),
    "windows-cmd": _shell("set {}=", "set {}={}", _escaping('^&|<>()"', "^")),
    "fish": _shell("set -e {}", 'set -gx {} "{}"', _escaping('\\"$', "\\")),
}
