"""MFA codes: a static one, from a callable, or from the terminal."""

from __future__ import annotations

import getpass
import os
import sys
import threading
from collections.abc import Callable

from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError

from ._parameters import check_token_code


class MfaDevice:
    """A device, and where its codes come from.

    Attributes:
        has_static_code: Whether there is only the one code that was passed, which STS accepts once.
    """

    def __init__(self, serial_number: str, token_code: str | Callable[[], str] | None) -> None:
        self._serial_number = serial_number
        self._token_code = token_code
        self.has_static_code: bool = not (token_code is None or callable(token_code))
        self._code_is_used = False

    def code(self) -> str:
        """Return a code for the next AssumeRole call, which may mean asking for it.

        Raises:
            RefreshWithMFAUnsupportedError: The static code has been used.
            CredentialRetrievalError: There is no terminal, or a callable returned something else than six digits.
        """
        if callable(self._token_code):
            return check_token_code(self._token_code())
        if self._token_code is None:
            return self._prompt()
        if self._code_is_used:
            raise RefreshWithMFAUnsupportedError
        return str(self._token_code)

    def mark_code_used(self) -> None:
        """STS has accepted the code, and accepts none twice."""
        self._code_is_used = True

    def _prompt(self) -> str:
        with _terminal:
            if not has_terminal():
                raise CredentialRetrievalError(
                    provider="assume-role",
                    error_msg=f"MFA device {self._serial_number} needs a code and there is no terminal to prompt on. "
                    "Pass TokenCode: six digits, or a callable that returns them.",
                )
            return getpass.getpass(f"Enter MFA code for {self._serial_number}: ")


def has_terminal() -> bool:
    """Whether a person can be prompted."""
    # getpass reads stdin where it finds no terminal, and a service would wait there forever; so would a background
    # job, which is stopped when it touches its terminal.
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


# One question at a time. Only the prompt runs while this is held.
_terminal = threading.Lock()


def _free_terminal() -> None:
    # The thread that was prompting is not in the forked child.
    global _terminal
    _terminal = threading.Lock()


# Windows does not fork, and has no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_free_terminal)
