"""MFA codes: a static one, from a callable, or from the terminal."""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import Future

from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError

from ._attempts import run_foreign, share
from ._parameters import check_token_code

# How many times a person may mistype a code.
MAX_PROMPTS = 3
# There is one prompt at a time, as for any attempt that threads share. The others wait a day for their turn.
TERMINAL = "terminal"
PROMPT_LIMIT = 86400


class TerminalWasTaken(Exception):
    """Another thread has just been given a code, perhaps for the same keys: look again before prompting."""


class MfaDevice:
    """An MFA device and the source of its codes.

    Attributes:
        has_static_code: Whether the only code is the one that was passed in, which STS accepts once.
    """

    def __init__(self, serial_number: str, token_code: str | Callable[[], str] | None) -> None:
        self._serial_number = serial_number
        self._token_code = token_code
        self.has_static_code: bool = not (token_code is None or callable(token_code))
        self.code_is_used = False

    def code(self) -> str:
        """Return a code for the next AssumeRole call, prompting for it if necessary.

        Raises:
            TerminalWasTaken: Another thread prompted first.
            RefreshWithMFAUnsupportedError: The static code has been used.
            CredentialRetrievalError: There is no terminal to prompt on, or what was typed there is not a code.
            ParamValidationError: The callable returned something other than six digits.
        """
        if callable(self._token_code):
            return text_of(check_token_code(run_foreign(self._token_code)))
        if self._token_code is None:
            return self._prompt()
        if self.code_is_used:
            raise RefreshWithMFAUnsupportedError
        return text_of(self._token_code)

    def _prompt(self) -> str:
        typed: Future[str] = Future()

        def prompt() -> None:
            try:
                typed.set_result(run_foreign(self._typed_code))
            except Exception as error:  # about this device, not an outcome for the threads that wait for their turn
                typed.set_exception(error)

        share(TERMINAL, prompt, PROMPT_LIMIT, patient=True)
        if not typed.done():
            raise TerminalWasTaken
        return typed.result()

    def _typed_code(self) -> str:
        # A notebook replaces getpass.getpass, and needs no terminal.
        if getpass.getpass in _PYTHONS_OWN and not has_terminal():
            raise CredentialRetrievalError(
                provider="assume-role",
                error_msg=f"MFA device {self._serial_number} needs a code and there is no terminal to prompt on. "
                "Pass TokenCode: six digits, or a callable that returns them.",
            )
        problem = ""
        for _ in range(MAX_PROMPTS):
            code = getpass.getpass(f"{problem}Enter MFA code for {self._serial_number}: ").strip()
            if re.fullmatch("[0-9]{6}", code):
                return code
            problem = f"An MFA code is six digits; that was {len(code)} characters. "
        raise CredentialRetrievalError(
            provider="assume-role",
            error_msg=f"{MAX_PROMPTS} times, what was typed for MFA device {self._serial_number} was not a code of six "
            "digits.",
        )


# For Unix, for Windows, and for a terminal that cannot hide what is typed.
_PYTHONS_OWN = [getattr(getpass, name, None) for name in ("unix_getpass", "win_getpass", "fallback_getpass")]


def text_of(code: object) -> str:
    # str() of an enum member would be its name.
    return str.__str__(code) if isinstance(code, str) else str(code)


def has_terminal() -> bool:
    """Whether a person can be prompted."""
    # Without a terminal, getpass reads stdin, where a service would wait forever. So would a background job, which is
    # stopped as soon as it touches its terminal.
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
            return False
        # On Windows, isatty() is true for the NUL device, too, which is the stdin of services and scheduled tasks.
        return os.name != "nt" or "Console" in type(getattr(sys.stdin.buffer, "raw", None)).__name__
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
