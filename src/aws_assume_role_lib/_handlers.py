"""botocore's built-in event handlers: registered once, shared by all children until one registers its own."""

from __future__ import annotations

import copy
from typing import Any

import botocore.handlers
import botocore.hooks
import botocore.session
from botocore.hooks import EventAliaser, HierarchicalEmitter


def builtin_handlers() -> HierarchicalEmitter | None:
    """An emitter with the built-in handlers, to be copied; None where botocore no longer lets us make one."""
    global _prepared
    handlers = botocore.handlers.BUILTIN_HANDLERS
    # Libraries add to that list when they are imported; moto does.
    if _prepared is None or _prepared[0] != handlers:
        emitter = HierarchicalEmitter()
        if _Trie is not object:
            # botocore internal: where an emitter keeps its handlers.
            vars(emitter)["_handlers"] = _SharedTrie()
        try:
            _HandlersOnly(emitter)
            copy.copy(emitter).register_first("choose-signer", lambda **_: None)
        except Exception:
            # Whatever botocore has changed, the slow way works.
            return None
        _prepared = (list(handlers), emitter)
    return _prepared[1]


_prepared: tuple[list[Any], HierarchicalEmitter] | None = None


class _HandlersOnly(botocore.session.Session):
    # botocore internals: _events and _register_builtin_handlers(). A whole session would run botocore's
    # initializers too, whose handlers every copy would then have twice. Where they are gone, each child
    # registers the handlers itself, at ten times the cost. Covered by tests/test_internals.py.
    def __init__(self, emitter: HierarchicalEmitter) -> None:
        self._events = EventAliaser(emitter)
        register: Any = self
        register._register_builtin_handlers(self._events)


# botocore internal: an emitter's handlers by event name. botocore copies all of its 400 nodes for each session and
# each client; a copy that shares them, and replaces those it changes, takes a fraction of the time and the memory.
# Covered by tests/test_internals.py.
_Trie: Any = getattr(botocore.hooks, "_PrefixTrie", object)


class _SharedTrie(_Trie):  # type: ignore[misc]  # no type stub has it
    def append_item(self, key: str, *args: Any, **kwargs: Any) -> None:
        self._own(key)
        super().append_item(key, *args, **kwargs)

    def remove_item(self, key: str, value: Any) -> None:
        self._own(key)
        super().remove_item(key, value)

    def _own(self, key: str) -> None:
        """Replace the nodes on the way to a key by copies: no node that another trie may share is ever changed."""
        self._root: dict[str, Any] = _copied(self._root)
        node = self._root
        for part in key.split("."):
            if part not in node["children"]:
                return
            node["children"][part] = node = _copied(node["children"][part])

    def __copy__(self) -> _SharedTrie:
        new = _SharedTrie()
        new._root = self._root
        return new


class SharedAliaser(EventAliaser):
    """An emitter behind botocore's aliases of event names, each of which is worked out once in a process."""

    def __init__(self, event_emitter: Any, event_aliases: Any = None) -> None:
        super().__init__(event_emitter, event_aliases)
        # botocore internal: what has been worked out, anew for each session and each client. It tries two hundred
        # aliases for each name. Covered by tests/test_internals.py.
        self._alias_name_cache = _aliases


_aliases: dict[str, str] = {}


def _copied(node: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.copy(value) for name, value in node.items()}
