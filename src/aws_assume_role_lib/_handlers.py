"""botocore's built-in event handlers, registered once per process. Without this module, children only take longer."""

from __future__ import annotations

import copy
from typing import Any

import botocore.handlers
import botocore.session
from botocore.hooks import EventAliaser, HierarchicalEmitter


def builtin_handlers() -> HierarchicalEmitter | None:
    """Return a new emitter with botocore's built-in handlers, or None if botocore must register them itself.

    botocore registers them one by one for each session, which takes ten times as long as a copy.
    """
    global _prepared
    handlers = botocore.handlers.BUILTIN_HANDLERS
    # Libraries such as moto add to that list when they are imported.
    if _prepared is None or _prepared[0] != handlers:
        emitter = HierarchicalEmitter()
        try:
            # botocore internals: _events and _register_builtin_handlers(). A complete session would also run botocore's
            # initializers, and every copy would then have their handlers twice. If they are gone, botocore registers
            # its handlers for each child. Covered by tests/test_internals.py.
            session: Any = object.__new__(botocore.session.Session)
            session._events = EventAliaser(emitter)
            session._register_builtin_handlers(session._events)
        except Exception:
            return None
        _prepared = (list(handlers), emitter)
    # The prepared emitter is only ever copied, never changed.
    return copy.copy(_prepared[1])


_prepared: tuple[list[Any], HierarchicalEmitter] | None = None
