"""What somebody may have meant by a name that is not one."""

from __future__ import annotations

from collections.abc import Iterable

# What other tools call these.
_ALIASES = {"duration": "durationseconds", "policies": "policyarns", "p": "profile", "sessionname": "rolesessionname"}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is the same but for case, hyphens and underscores, or else a similar one, if any."""
    import difflib  # which costs an import that only mistakes need

    by_form = {_form(each): each for each in names}
    form = _form(name)
    form = _ALIASES.get(form, form)
    close = difflib.get_close_matches(form, by_form, 1, 0.75)
    return by_form[close[0]] if close else None


def _form(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
