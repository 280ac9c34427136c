"""What the clients of a family of sessions share: connections, and what botocore generates for each service.

A family is a session that :func:`assume_role` did not create, and every session assumed from it, directly or not.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import operator
import os
import threading
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any, TypeVar

import botocore.client
import botocore.handlers
import botocore.hooks
import botocore.httpsession
import botocore.session
from botocore.config import Config
from botocore.hooks import EventAliaser, HierarchicalEmitter
from botocore.model import ServiceModel

from ._attempts import log

T = TypeVar("T")


# urllib3 keeps connections to ten hosts, enough for one client; a family calls services in many regions.
HOSTS = 256
# botocore keeps ten idle connections to a host, enough for one client; a family is used by many threads.
CONNECTIONS_PER_HOST = 256
# How many combinations of transport settings keep connections for new clients; existing clients keep theirs.
POOLS = 32
# How long a thread waits for another one to load a service before it loads the service itself.
LOADING_TIMEOUT = 2.0


def shared_clients(root: botocore.session.Session) -> SharedClients:
    """Return the :class:`SharedClients` of a root session's family."""
    # Stored in the session's own dictionary, which lives exactly as long as the session. A client refers to its
    # session, so a weak mapping from sessions to clients would keep both alive forever. setdefault() is atomic.
    shared: SharedClients = vars(root).setdefault("_aws_assume_role_lib_clients", SharedClients())
    return shared


class SharedClients:
    """What the clients of one family share. The root session owns it."""

    def __init__(self) -> None:
        self._creator: tuple[Any, Any] | None = None
        self._connections: dict[object, Any] = {}
        self._generated: dict[object, tuple[tuple[object, ...], Any]] = {}
        self._loaded: set[object] = set()
        self._loading: dict[int, threading.RLock] = {}

    def __deepcopy__(self, _: object) -> SharedClients:
        # A copied session is the root of its own family.
        return SharedClients()

    def create_client(self, session: botocore.session.Session, *args: object, **kwargs: object) -> object:
        """Create a client as ``botocore.session.Session.create_client()`` does, but from shared parts."""
        original = vars(botocore.client).get("ClientCreator")
        if self._creator is None or self._creator[0] is not original:
            self._creator = (original, _sharing_creator(self))
        create: Any = botocore.session.Session.create_client
        if self._creator[1] is not None:
            client = SimpleNamespace(**{**vars(botocore.client), "ClientCreator": self._creator[1]})
            create = _finding(create, botocore=SimpleNamespace(**{**vars(botocore), "client": client}))
        return create(session, *args, **kwargs)

    def connections(self, *args: object, **settings: object) -> object:
        """Return the connections for these arguments of botocore's ``URLLib3Session``."""
        try:
            key = _comparable([args, settings])
        except TypeError:
            return _URLLib3Session(*args, **settings)
        connections = self._connections.get(key)
        if connections is None:
            # A copy, because the caller may change its dict of proxies later.
            connections = SharedConnections(*copy.deepcopy(args), **copy.deepcopy(settings))
            connections = self._connections.setdefault(key, connections)
            for oldest in list(self._connections)[:-POOLS]:
                self._connections.pop(oldest, None)
        return connections

    def once(self, name: object, generate: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Return the function's result for these arguments, generated once for the same arguments.

        Arguments are compared by identity. A loader caches what it parses, so a different object means a different API
        version, data path or loader.
        """
        sources = (*args, *kwargs.values())
        known = self._generated.get(name)
        if known is None or not all(map(operator.is_, known[0], sources)):
            known = self._generated[name] = (sources, generate(*args, **kwargs))
        return known[1]

    @contextlib.contextmanager
    def one_at_a_time(self, name: object, loaded: set[object] | None = None) -> Iterator[None]:
        """Let one thread load something while others wait, unless it has already been loaded."""
        loaded = self._loaded if loaded is None else loaded
        if name in loaded:
            yield
            return
        # The wait is bounded because botocore logs inside, at DEBUG, and a log handler may wait for a thread that is
        # waiting here. Each process has its own lock because another thread may hold one during a fork.
        lock = self._loading.setdefault(os.getpid(), threading.RLock())
        acquired = lock.acquire(timeout=LOADING_TIMEOUT)
        try:
            yield
        finally:
            if acquired:
                lock.release()
        loaded.add(name)


# botocore internal: the class that sends a client's requests. If it is gone, nothing is shared. Covered by
# tests/test_internals.py, like all internals in this module.
_URLLib3Session: Any = getattr(botocore.httpsession, "URLLib3Session", object)


class SharedConnections(_URLLib3Session):  # type: ignore[misc]  # see above
    """Connections that many clients use and none closes."""

    def __init__(self, *args: object, **settings: object) -> None:
        self._arguments = (args, dict(settings))
        self._process = os.getpid()
        if settings.get("max_pool_connections") == getattr(Config(), "max_pool_connections", None):
            settings["max_pool_connections"] = CONNECTIONS_PER_HOST
        super().__init__(*args, **settings)

    # botocore internal: returns the arguments for urllib3's PoolManager and ProxyManager. If it is gone, connections to
    # only ten hosts are kept.
    def _get_pool_manager_kwargs(self, **kwargs: object) -> dict[str, Any]:
        return {"num_pools": HOSTS, **super()._get_pool_manager_kwargs(**kwargs)}

    def send(self, request: object) -> object:
        if self._process != os.getpid():
            args, settings = self._arguments
            renewed: Any = type(self)(*args, **settings)
            # The parent process still uses these connections. They are kept here, not closed: to close them, urllib3
            # takes locks that another thread may have held during the fork.
            renewed.inherited = self.__dict__
            # One assignment, because another thread may already be sending.
            self.__dict__ = renewed.__dict__
        return super().send(request)

    def close(self) -> None:
        """Do nothing: other clients use these connections."""


def _comparable(setting: object) -> object:
    """Return a hashable copy of a transport setting, or raise TypeError if botocore does not document its type."""
    if isinstance(setting, dict):
        return frozenset((name, _comparable(value)) for name, value in setting.items())
    if isinstance(setting, (list, tuple)):
        return tuple(map(_comparable, setting))
    if isinstance(setting, str):
        # It may name a file, such as a client certificate; a renewed certificate needs new connections.
        return setting, version_of_file(setting)
    if setting is None or isinstance(setting, (bool, bytes, int, float)):
        return type(setting), setting
    raise TypeError


def version_of_file(path: str) -> object:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sharing_creator(shared: SharedClients) -> type | None:
    """Return a ClientCreator that creates clients from shared parts, or None if botocore is not as expected.

    botocore has no setting for this, and patching its classes would change every other client in the process. So these
    subclasses run botocore's own methods with some global names replaced: where a method would instantiate a class, it
    finds our subclass. If botocore renames a method, it is no longer overridden; if it rewrites one, it is used as is.
    """
    try:
        import botocore.args
        import botocore.endpoint
        import botocore.regions

        return _subclasses(shared, botocore.client, botocore.args, botocore.endpoint, botocore.regions)
    except (ImportError, AttributeError, TypeError) as error:
        _note(f"botocore is not as expected ({error}); clients share nothing.")
        return None


def _subclasses(shared: SharedClients, client: Any, args: Any, endpoint: Any, regions: Any) -> type:
    if not issubclass(SharedConnections, endpoint.URLLib3Session):
        raise AttributeError("botocore.endpoint has another URLLib3Session")
    if "http_session_cls" not in inspect.signature(endpoint.EndpointCreator.create_endpoint).parameters:
        raise AttributeError("EndpointCreator.create_endpoint() has no http_session_cls")

    class SharingEndpointCreator(endpoint.EndpointCreator):  # type: ignore[misc]  # the stubs cover little of it
        def create_endpoint(self, *args: object, **kwargs: object) -> object:
            return super().create_endpoint(*args, http_session_cls=shared.connections, **kwargs)

    class SharingResolver(regions.EndpointRulesetResolver):  # type: ignore[misc]  # the stubs cover little of it
        def __init__(self, *args: object, **kwargs: object) -> None:
            def provider(*args: object, **kwargs: object) -> object:
                # A copy, because a provider caches the endpoints that it has resolved.
                return copy.copy(shared.once(name, regions.EndpointProvider, *args, **kwargs))

            name = _name("rules", kwargs.get("service_model"))
            _finding(super().__init__, EndpointProvider=provider)(*args, **kwargs)

    class SharingArgsCreator(args.ClientArgsCreator):  # type: ignore[misc]  # the stubs cover little of it
        def get_client_args(self, *args: object, **kwargs: object) -> object:
            return _finding(super().get_client_args, EndpointCreator=SharingEndpointCreator)(*args, **kwargs)

        def _build_endpoint_resolver(self, *args: object, **kwargs: object) -> object:
            build = _finding(super()._build_endpoint_resolver, EndpointRulesetResolver=SharingResolver)
            return build(*args, **kwargs)

    class SharingCreator(client.ClientCreator):  # type: ignore[misc]  # the stubs cover little of it
        def _load_service_model(self, *args: object, **kwargs: object) -> object:
            with shared.one_at_a_time(("model", args)):
                model = super()._load_service_model(*args, **kwargs)
            # botocore internal: the JSON that a model is built from. If it is gone, each client has its own model. The
            # model itself is cheap to create: it generates its contents on demand.
            return shared.once(_name("model", model), lambda _: model, getattr(model, "_service_description", model))

        def _load_service_endpoints_ruleset(self, *args: object, **kwargs: object) -> object:
            with shared.one_at_a_time(("ruleset", args)):
                return super()._load_service_endpoints_ruleset(*args, **kwargs)

        def _create_methods(self, service_model: ServiceModel) -> object:
            # The methods' docstrings refer to the emitter; with the first client's, they would keep its handlers alive.
            # botocore internal: the emitter. If it is gone, the methods keep those handlers alive.
            creator = copy.copy(self)
            creator._event_emitter = SharedAliaser(builtin_handlers() or HierarchicalEmitter())
            name = _name("methods", service_model)
            with shared.one_at_a_time(name):
                methods = shared.once(name, super(SharingCreator, creator)._create_methods, service_model)
            # A copy, because creating-client-class handlers may change it.
            return dict(methods)

        def _get_client_args(self, *args: object, **kwargs: object) -> object:
            return _finding(super()._get_client_args, ClientArgsCreator=SharingArgsCreator)(*args, **kwargs)

    return SharingCreator


def _name(kind: str, service_model: Any) -> object:
    return kind, service_model.service_name, service_model.metadata.get("apiVersion")


def _finding(function: Callable[..., T], **substitutes: object) -> Callable[..., T]:
    """Return a copy of a botocore function in which these global names refer to the given objects.

    A function that does not look as expected is returned unchanged.
    """
    if isinstance(function, MethodType):
        return MethodType(_finding(function.__func__, **substitutes), function.__self__)
    if not isinstance(function, FunctionType) or not function.__globals__["__name__"].startswith("botocore."):
        _note(f"{function!r} is not botocore's; using it as is.")
        return function
    found, closure = function.__globals__, function.__closure__
    decorated = getattr(function, "__wrapped__", None)
    if decorated is not None:
        changed = _finding(decorated, **substitutes)
        closure = tuple(CellType(changed) if cell.cell_contents is decorated else cell for cell in closure or ())
    elif substitutes.keys() <= set(function.__code__.co_names):
        found = {**found, **substitutes}
    else:
        _note(f"{function.__qualname__}() no longer uses {', '.join(substitutes)}; using it as is.")
        return function
    changed = FunctionType(function.__code__, found, function.__name__, function.__defaults__, closure)
    changed.__kwdefaults__ = function.__kwdefaults__
    return changed


def _note(message: str) -> None:
    if message not in _noted:
        _noted.add(message)
        log(logging.DEBUG, message)


_noted: set[str] = set()


def builtin_handlers() -> HierarchicalEmitter | None:
    """Return an emitter with botocore's built-in handlers, to be copied, or None if botocore does not allow it.

    botocore registers them one by one for each session, which takes ten times as long as a copy.
    """
    global _prepared
    handlers = botocore.handlers.BUILTIN_HANDLERS
    # Libraries such as moto add to that list when they are imported.
    if _prepared is None or _prepared[0] != handlers:
        emitter = HierarchicalEmitter()
        if _Trie is not object:
            # botocore internal: where an emitter stores its handlers. If it is gone, each copy has handlers of its own.
            vars(emitter)["_handlers"] = _SharedTrie()
        try:
            # botocore internals: _events and _register_builtin_handlers(). A complete session would also run botocore's
            # initializers, and every copy would then have their handlers twice.
            session: Any = object.__new__(botocore.session.Session)
            session._events = EventAliaser(emitter)
            session._register_builtin_handlers(session._events)
            copy.copy(emitter).register_first("choose-signer", lambda **_: None)
        except Exception:
            return None
        _prepared = (list(handlers), emitter)
    return _prepared[1]


_prepared: tuple[list[Any], HierarchicalEmitter] | None = None

# botocore internal: an emitter's handlers by event name. botocore copies all of its 400 nodes for each session and
# client; sharing them, and copying only those that change, takes a fraction of the time and memory. If the class is
# gone, they are copied.
_Trie: Any = getattr(botocore.hooks, "_PrefixTrie", object)


class _SharedTrie(_Trie):  # type: ignore[misc]  # no type stub covers it
    def append_item(self, key: str, *args: object, **kwargs: object) -> None:
        self._own(key)
        super().append_item(key, *args, **kwargs)

    def remove_item(self, key: str, value: object) -> None:
        self._own(key)
        super().remove_item(key, value)

    def _own(self, key: str) -> None:
        """Replace the nodes on the path to a key with copies, so that another trie's nodes are never changed."""
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
    """botocore's emitter with event name aliases, each of which is looked up once per process."""

    def __init__(self, event_emitter: HierarchicalEmitter, event_aliases: dict[str, str] | None = None) -> None:
        super().__init__(event_emitter, event_aliases)
        # botocore internal: a cache of aliases, empty for each new session or client. A miss tries 200 aliases. If the
        # attribute is gone, each session tries them.
        self._alias_name_cache = _aliases


_aliases: dict[str, str] = {}
