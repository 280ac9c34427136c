"""What the clients of a family of sessions share: connections, and what botocore generates for each service.

A family is a session that :func:`assume_role` did not make, and every session assumed from it, at any distance.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import botocore.args
import botocore.client
import botocore.endpoint
import botocore.handlers
import botocore.hooks
import botocore.regions
import botocore.session
from botocore.hooks import EventAliaser, HierarchicalEmitter
from botocore.httpsession import MAX_POOL_CONNECTIONS, URLLib3Session

logger = logging.getLogger("aws_assume_role_lib")

# urllib3 keeps connections to ten hosts, which is meant for one client; a family calls services in many regions.
HOSTS = 256
# botocore keeps ten idle connections to a host, which is meant for one client; a family is used by many threads.
CONNECTIONS_PER_HOST = 256
# Connections with other transport settings than the latest 32 are forgotten; clients that have them keep them.
POOLS = 32
# How long a thread waits for another one to load a service before it loads the service itself.
LOADING_TIMEOUT = 2.0


def shared_clients(root: botocore.session.Session) -> SharedClients:
    """Return what the clients of a root session's family share."""
    # The session's own dictionary is the one place that lives exactly as long as the session: clients refer to their
    # session, so a weak mapping would keep both forever. setdefault() is atomic.
    shared: SharedClients = vars(root).setdefault("_aws_assume_role_lib_clients", SharedClients())
    return shared


class SharedClients:
    """What the clients of one family share. The root session keeps it."""

    def __init__(self) -> None:
        self._connections: dict[object, SharedConnections] = {}
        self._generated: dict[object, tuple[tuple[object, ...], Any]] = {}
        self._loaded: set[object] = set()
        self._loading: dict[int, threading.RLock] = {}
        self._sharing: tuple[type, type] | None = None

    def __deepcopy__(self, _: object) -> SharedClients:
        # A copied session is the root of a family of its own.
        return SharedClients()

    def create_client(self, session: botocore.session.Session, *args: Any, **kwargs: Any) -> Any:
        """Make a client as ``botocore.session.Session.create_client()`` does, but of shared parts."""
        creator = botocore.client.ClientCreator
        if self._sharing is None or self._sharing[0] is not creator:
            self._sharing = (creator, _sharing_client_creator(self))
        create = _substitute(botocore.session.Session.create_client, "botocore.client.ClientCreator", self._sharing[1])
        return create(session, *args, **kwargs)

    def connections(self, **settings: Any) -> URLLib3Session:
        """Return the connections for these arguments of botocore's ``URLLib3Session``."""
        try:
            key = _comparable(settings)
        except TypeError:
            return URLLib3Session(**settings)
        connections = self._connections.get(key)
        if connections is None:
            # A copy, because the user may change a dict of proxies later.
            connections = self._connections.setdefault(key, SharedConnections(copy.deepcopy(settings)))
            for oldest in list(self._connections)[:-POOLS]:
                self._connections.pop(oldest, None)
        return connections

    def once(self, name: object, generate: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that it generates the same thing from the same arguments only once.

        Arguments are compared by identity. A loader keeps what it has parsed, so another object comes from another
        API version, data path or loader.
        """

        def generated(*args: Any, **kwargs: Any) -> Any:
            sources = (*args, *kwargs.values())
            known = self._generated.get(name)
            if known is None or len(known[0]) != len(sources) or not all(map(_same, known[0], sources)):
                known = self._generated[name] = (sources, generate(*args, **kwargs))
            return known[1]

        return generated

    @contextlib.contextmanager
    def one_at_a_time(self, name: object, loaded: set[object] | None = None) -> Iterator[None]:
        """Let one thread load something while others wait for it, unless it is among what has been loaded."""
        loaded = self._loaded if loaded is None else loaded
        if name in loaded:
            yield
            return
        # The wait is bounded because botocore logs inside, at DEBUG, and a log handler may wait for a thread that waits
        # here. Each process has a lock of its own because another thread may hold one during a fork.
        lock = self._loading.setdefault(os.getpid(), threading.RLock())
        acquired = lock.acquire(timeout=LOADING_TIMEOUT)
        try:
            yield
        finally:
            if acquired:
                lock.release()
        loaded.add(name)


def _same(theirs: object, ours: object) -> bool:
    return theirs is ours or (isinstance(ours, str) and theirs == ours)


# The type stubs have little of it.
_URLLib3Session: Any = URLLib3Session


class SharedConnections(_URLLib3Session):  # type: ignore[misc]
    """Connections that many clients use and none of them closes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings.get("max_pool_connections") == MAX_POOL_CONNECTIONS:
            settings["max_pool_connections"] = CONNECTIONS_PER_HOST
        self._settings = settings
        self._connect()

    def _connect(self) -> None:
        super().__init__(**self._settings)
        self._process = os.getpid()

    # botocore internal: makes the arguments of urllib3's PoolManager and ProxyManager. If it is gone, connections to
    # ten hosts are kept. Covered by tests/test_internals.py.
    def _get_pool_manager_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {"num_pools": HOSTS, **super()._get_pool_manager_kwargs(**kwargs)}

    def send(self, request: Any) -> Any:
        if self._process != os.getpid():
            # The process that forked still uses its connections. They are kept here, not closed: to close them,
            # urllib3 takes locks that another thread may have held during the fork.
            self._inherited = dict(vars(self))
            self._connect()
        return super().send(request)

    def close(self) -> None:
        """Do nothing: other clients use these connections."""


def _comparable(setting: Any) -> object:
    """Return a hashable copy of a transport setting, or raise TypeError for a type that botocore does not document."""
    if isinstance(setting, dict):
        return frozenset((name, _comparable(value)) for name, value in setting.items())
    if isinstance(setting, (list, tuple)):
        return tuple(map(_comparable, setting))
    if isinstance(setting, str):
        # It may name a file, such as a client certificate, and a renewed certificate needs new connections.
        return setting, _version_of_file(setting)
    if setting is None or isinstance(setting, (bool, bytes, int, float)):
        return type(setting), setting
    raise TypeError


def _version_of_file(path: str) -> object:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sharing_client_creator(shared: SharedClients) -> Any:
    """Return a subclass of botocore's ClientCreator that makes clients of shared parts.

    botocore has no setting for this, and to patch its classes would change every other client in the process. So these
    subclasses run botocore's own methods, in which one class that botocore finds by name is substituted by another.
    All of it is internal to botocore, and covered by tests/test_internals.py. A method that is renamed is no longer
    overridden, and one whose code looks different is not changed: clients are then made botocore's way.
    """
    # The type stubs have little of it.
    args: Any = botocore.args
    client: Any = botocore.client
    endpoint: Any = botocore.endpoint
    regions: Any = botocore.regions

    class SharingEndpointCreator(endpoint.EndpointCreator):  # type: ignore[misc]
        def create_endpoint(self, *args: Any, **kwargs: Any) -> Any:
            return super().create_endpoint(*args, http_session_cls=shared.connections, **kwargs)

    def sharing_resolver(*args: Any, service_model: Any, **kwargs: Any) -> Any:
        def provider(*args: Any, **kwargs: Any) -> Any:
            # A copy, because botocore remembers which endpoints a provider has found.
            return copy.copy(parsed(*args, **kwargs))

        parsed = shared.once(("rules", service_model.service_name), regions.EndpointProvider)
        resolver_class = regions.EndpointRulesetResolver
        resolver = resolver_class.__new__(resolver_class)
        init = _substitute(resolver_class.__init__, "EndpointProvider", provider)
        init(resolver, *args, service_model=service_model, **kwargs)
        return resolver

    class SharingClientArgsCreator(args.ClientArgsCreator):  # type: ignore[misc]
        def get_client_args(self, *args: Any, **kwargs: Any) -> Any:
            get = _substitute(super().get_client_args, "EndpointCreator", SharingEndpointCreator)
            return get(*args, **kwargs)

        def _build_endpoint_resolver(self, *args: Any, **kwargs: Any) -> Any:
            build = _substitute(super()._build_endpoint_resolver, "EndpointRulesetResolver", sharing_resolver)
            return build(*args, **kwargs)

    class SharingClientCreator(client.ClientCreator):  # type: ignore[misc]
        def _load_service_model(self, *args: Any, **kwargs: Any) -> Any:
            name = ("model", args)
            load = _substitute(
                super()._load_service_model, "ServiceModel", shared.once(name, botocore.client.ServiceModel)
            )
            with shared.one_at_a_time(name):
                return load(*args, **kwargs)

        def _load_service_endpoints_ruleset(self, *args: Any, **kwargs: Any) -> Any:
            with shared.one_at_a_time(("ruleset", args)):
                return super()._load_service_endpoints_ruleset(*args, **kwargs)

        def _create_methods(self, service_model: Any) -> Any:
            # The docstrings of methods keep the emitter, which must not be the first client's, with its handlers.
            creator = copy.copy(self)
            creator._event_emitter = SharedAliaser(builtin_handlers() or HierarchicalEmitter())
            create = super(SharingClientCreator, creator)._create_methods
            name = ("methods", service_model.service_name, service_model.api_version)
            with shared.one_at_a_time(name):
                # A copy, because handlers of creating-client-class change it.
                return dict(shared.once(name, create)(service_model))

        def _get_client_args(self, *args: Any, **kwargs: Any) -> Any:
            get = _substitute(super()._get_client_args, "ClientArgsCreator", SharingClientArgsCreator)
            return get(*args, **kwargs)

    return SharingClientCreator


def _substitute(function: Any, path: str, substitute: Any) -> Any:
    """Return a copy of one of botocore's functions that finds something else under a global name, or below one.

    A function that does not look as expected is returned as it is.
    """
    if isinstance(function, MethodType):
        return MethodType(_substitute(function.__func__, path, substitute), function.__self__)
    first, *rest = path.split(".")
    if not isinstance(function, FunctionType) or not function.__globals__["__name__"].startswith("botocore."):
        return _unexpected(function, path)
    namespace, closure = function.__globals__, function.__closure__
    inner = getattr(function, "__wrapped__", None)
    if inner is not None:
        changed = _substitute(inner, path, substitute)
        closure = tuple(CellType(changed) if cell.cell_contents is inner else cell for cell in closure or ())
    elif {first, *rest} <= set(function.__code__.co_names) and first in namespace:
        namespace = vars(_with(SimpleNamespace(**namespace), [first, *rest], substitute))
    else:
        return _unexpected(function, path)
    changed = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, closure)
    changed.__kwdefaults__ = function.__kwdefaults__
    return changed


def _with(module: Any, path: list[str], substitute: Any) -> SimpleNamespace:
    """Return a stand-in for a module that has a substitute below it, and else the same."""
    name, *rest = path
    value = _with(getattr(module, name), rest, substitute) if rest else substitute
    return SimpleNamespace(**{**vars(module), name: value})


def _unexpected(function: Any, path: str) -> Any:
    name = getattr(function, "__qualname__", repr(function))
    if name not in _noted:
        _noted.add(name)
        logger.debug("%s does not use %s as expected; clients are made without sharing it.", name, path)
    return function


_noted: set[str] = set()


def builtin_handlers() -> HierarchicalEmitter | None:
    """Return an emitter with botocore's built-in handlers, to be copied, or None if botocore does not allow it.

    botocore registers them one by one for each session, which takes ten times as long as a copy.
    """
    global _prepared
    handlers = botocore.handlers.BUILTIN_HANDLERS
    # Libraries add to that list when they are imported; moto does.
    if _prepared is None or _prepared[0] != handlers:
        emitter = HierarchicalEmitter()
        if _Trie is not object:
            # botocore internal: where an emitter keeps its handlers.
            vars(emitter)["_handlers"] = _SharedTrie()
        try:
            # botocore internals: _events and _register_builtin_handlers(). A complete session would run botocore's
            # initializers too, whose handlers every copy would then have twice.
            session: Any = object.__new__(botocore.session.Session)
            session._events = EventAliaser(emitter)
            session._register_builtin_handlers(session._events)
            copy.copy(emitter).register_first("choose-signer", lambda **_: None)
        except Exception:
            return None
        _prepared = (list(handlers), emitter)
    return _prepared[1]


_prepared: tuple[list[Any], HierarchicalEmitter] | None = None

# botocore internal: an emitter's handlers by event name. botocore copies all of its 400 nodes for each session and each
# client; a copy that shares them, and replaces those it changes, takes a fraction of the time and the memory.
_Trie: Any = getattr(botocore.hooks, "_PrefixTrie", object)


class _SharedTrie(_Trie):  # type: ignore[misc]  # no type stub has it
    def append_item(self, key: str, *args: Any, **kwargs: Any) -> None:
        self._own(key)
        super().append_item(key, *args, **kwargs)

    def remove_item(self, key: str, value: Any) -> None:
        self._own(key)
        super().remove_item(key, value)

    def _own(self, key: str) -> None:
        """Replace the nodes on the way to a key by copies, so that no node of another trie is ever changed."""
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


def _copied(node: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.copy(value) for name, value in node.items()}


class SharedAliaser(EventAliaser):
    """An emitter behind botocore's aliases of event names, each of which is looked up once in a process."""

    def __init__(self, event_emitter: Any, event_aliases: Any = None) -> None:
        super().__init__(event_emitter, event_aliases)
        # botocore internal: the aliases found so far, empty for each session and each client. botocore tries two
        # hundred aliases for each event name.
        self._alias_name_cache = _aliases


_aliases: dict[str, str] = {}
