"""Suggestions for misspelled names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

# Other tools' names for these.
_ALIASES = {
    "duration": "durationseconds",
    "mfa": "serialnumber",
    "mfaserial": "serialnumber",
    "p": "profile",
    "policies": "policyarns",
    "role": "rolearn",
    "sessionname": "rolesessionname",
    "token": "tokencode",
}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that differs only in case, hyphens and underscores; otherwise a similar one, or None."""
    import difflib  # needed only after a mistake

    by_form = {_form(each): each for each in names}
    form = _form(name)
    close = difflib.get_close_matches(_ALIASES.get(form, form), by_form, 1, 0.75)
    return by_form[close[0]] if close else None


def suggest_keywords(function: F) -> F:
    """Make a function's TypeError for an unknown keyword suggest the keyword that was probably meant."""
    keywords = inspect.signature(function).parameters.keys()

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        for name in kwargs.keys() - keywords:
            meant = nearest(name, keywords)
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")
        return function(*args, **kwargs)

    return cast(F, call)


def _form(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
