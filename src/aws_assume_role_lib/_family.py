"""What a family of sessions shares: connections, and the knowledge that STS does not respond.

A family is a session that :func:`assume_role` did not create, its root, and every session assumed from it, directly or
not.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import queue
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import botocore.awsrequest
import botocore.httpsession
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials

if TYPE_CHECKING:
    _URLLib3Session: Any
else:
    _URLLib3Session = botocore.httpsession.URLLib3Session

# How many seconds after a failed early refresh the next one is made.
RETRY_INTERVAL = 60
# How many endpoints that did not respond are remembered.
MAX_ENDPOINTS = 16
# How many combinations of transport settings keep connections for new clients; existing clients keep theirs.
MAX_SETTINGS = 32
# To how many hosts connections are kept: urllib3 keeps ten, enough for one client; a family calls many regions.
MAX_HOSTS = 64
# botocore allows ten connections to a host to be idle at once, enough for one client. Only MAX_IDLE limits a family.
CONNECTIONS_PER_HOST = 256
# How many connections of the process may be idle, to all hosts together, and for how many seconds.
MAX_IDLE = 48
MAX_IDLE_TIME = 60


class Family:
    """One session's part in a family: what all its sessions share, and what this one has for the roles it assumes.

    Attributes:
        connections: Connections by their transport settings, shared.
        retry_at: Until when an endpoint that did not respond is left alone, shared. The key None means all endpoints.
        sts_clients: This session's own STS clients, most recently used last.
        renewed: This session's credentials, and those to use instead.
    """

    def __init__(self, above: Family | None = None) -> None:
        self.connections: dict[object, SharedConnections] = above.connections if above else {}
        self.retry_at: dict[object, float] = above.retry_at if above else {}
        self.sts_clients: OrderedDict[object, tuple[Any, ...]] = OrderedDict()
        self.renewed: tuple[object, Credentials | None] = (None, None)

    def __deepcopy__(self, _: object) -> Family:
        # A copied session is the root of a family of its own.
        return Family()

    def share_connections(self, client: Any) -> None:
        """Let a new client use the connections of earlier ones with the same transport settings."""
        # botocore internals: where a client has its HTTP session, and that session its settings. If they are gone, each
        # client has connections of its own. Covered by tests/test_internals.py.
        try:
            own: Any = client._endpoint.http_session
            config = client.meta.config
            if type(own) is not _URLLib3Session:
                return
            settings = {
                "verify": own._verify,
                "proxies": own._proxy_config._proxies,
                "timeout": (config.connect_timeout, config.read_timeout),
                "max_pool_connections": config.max_pool_connections,
                "socket_options": own._socket_options,
                "client_cert": config.client_cert,
                "proxies_config": config.proxies_config,
            }
            key = _comparable(settings)
        except (AttributeError, TypeError):
            return
        shared = self.connections.get(key)
        if shared is None:
            # A copy, because the caller may change its dict of proxies later.
            shared = self.connections.setdefault(key, SharedConnections(**copy.deepcopy(settings)))
            for oldest in list(self.connections)[:-MAX_SETTINGS]:
                self.connections.pop(oldest, None)
        client._endpoint.http_session = shared

    def is_unreachable(self, endpoint: object) -> bool:
        """Whether STS did not respond, or an early attempt was made again, less than a minute ago."""
        now = time.time()
        # Later than a minute from now if the clock was ahead and has been set right.
        return any(now < self.retry_at.get(each, 0.0) <= now + RETRY_INTERVAL for each in (None, endpoint))

    def was_unreachable_since(self, moment: float) -> bool:
        """Whether an endpoint, any of the family's, has not responded since a Unix time."""
        latest = time.time() + RETRY_INTERVAL
        return any(moment + RETRY_INTERVAL <= until <= latest for until in self.retry_at.copy().values())

    def claim_attempt(self, endpoint: object) -> None:
        """Let no other thread of the family try this minute, if STS was unreachable before."""
        for each in {None, endpoint} & self.retry_at.keys():
            self.mark_unreachable(each)

    def mark_unreachable(self, endpoint: object) -> None:
        """Remember that this endpoint did not respond; with None, that no endpoint can be called."""
        self.retry_at.pop(endpoint, None)
        self.retry_at[endpoint] = time.time() + RETRY_INTERVAL
        for oldest in list(self.retry_at)[:-MAX_ENDPOINTS]:
            self.retry_at.pop(oldest, None)

    def mark_reachable(self, endpoint: object) -> None:
        """Remember that this endpoint has responded."""
        for each in (None, endpoint):
            self.retry_at.pop(each, None)


def family_of(session: botocore.session.Session) -> Family:
    """Return the family of a botocore session, which becomes the root of one if it has none."""
    # Stored in the session's own dictionary, which lives exactly as long as the session. A client refers to its
    # session, so a weak mapping from sessions to clients would keep both alive forever. setdefault() is atomic.
    family: Family = vars(session).setdefault("_aws_assume_role_lib", Family())
    return family


class _IdleConnections:
    """A host's idle connections, in place of urllib3's queue: the process keeps only a few, to all hosts together.

    There is no lock, which a signal handler that sends a request could wait for. Each operation on a dict is atomic:
    whoever removes a connection from ``_idle`` owns it.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._connections: list[Any] = []

    def qsize(self) -> int:
        return len(self._connections)

    def put(self, connection: Any, block: bool = False) -> None:
        if connection is None:  # urllib3 fills its queue with these
            return
        if len(self._connections) >= self._maxsize:
            raise queue.Full
        # In this order, because get() discards a connection that is not among the idle ones.
        _idle[connection] = self, time.monotonic()
        self._connections.append(connection)
        close_idle(MAX_IDLE)

    def get(self, block: bool = False, timeout: object = None) -> Any:
        while self._connections:
            with contextlib.suppress(IndexError):  # another thread was faster
                connection = self._connections.pop()
                if _is_ours(connection):
                    return connection
        raise queue.Empty

    def drop(self, connection: Any) -> None:
        with contextlib.suppress(ValueError):  # another thread was faster
            self._connections.remove(connection)
        connection.close()


# The idle connections of this process, the longest idle first: a connection's queue, and since when it is idle.
_idle: dict[Any, tuple[_IdleConnections, float]] = {}


def _is_ours(connection: object) -> bool:
    """Whether this thread is the one that has removed a connection from the idle ones."""
    return _idle.pop(connection, None) is not None


def close_idle(limit: int) -> None:
    """Close the connections that have been idle for too long, and the longest idle of those above the limit."""
    oldest_allowed = time.monotonic() - MAX_IDLE_TIME
    idle = list(_idle.copy().items())
    for index, (connection, (connections, since)) in enumerate(idle):
        if (len(idle) - index > limit or since < oldest_allowed) and _is_ours(connection):
            connections.drop(connection)


class _HTTPPool(botocore.awsrequest.AWSHTTPConnectionPool):
    QueueCls = _IdleConnections  # type: ignore[assignment]  # it has what urllib3 uses


class _HTTPSPool(botocore.awsrequest.AWSHTTPSConnectionPool):
    QueueCls = _IdleConnections  # type: ignore[assignment]  # it has what urllib3 uses


class SharedConnections(_URLLib3Session):  # type: ignore[misc]  # the stubs cover little of it
    """Connections that many clients use and none closes."""

    # botocore internals: the classes that urllib3 makes pools of, and the method that returns the arguments for
    # urllib3's PoolManager and ProxyManager. If they are gone, ten connections to each host stay open, and connections
    # to only ten hosts. Covered by tests/test_internals.py.

    def __init__(self, **settings: Any) -> None:
        self._settings = dict(settings)
        self._process = os.getpid()
        if settings["max_pool_connections"] == getattr(Config(), "max_pool_connections", None):
            settings["max_pool_connections"] = CONNECTIONS_PER_HOST
        super().__init__(**settings)
        with contextlib.suppress(AttributeError):
            self._pool_classes_by_scheme.update(http=_HTTPPool, https=_HTTPSPool)

    def _get_pool_manager_kwargs(self, **kwargs: object) -> dict[str, Any]:
        return {"num_pools": MAX_HOSTS, **super()._get_pool_manager_kwargs(**kwargs)}

    def send(self, request: object) -> object:
        if self._process != os.getpid():
            # One assignment, because another thread may already be sending. The parent process still uses the old
            # connections, which are not closed here.
            self.__dict__ = {**type(self)(**self._settings).__dict__, "inherited": self.__dict__}
        handled = sys.exc_info()[1]  # by the program that sends this
        try:
            return super().send(request)
        except Exception as error:
            if not _is_out_of_descriptors(error, handled):
                raise
        close_idle(0)
        return super().send(request)

    def close(self) -> None:
        """Do nothing: other clients use these connections."""


def _is_out_of_descriptors(error: BaseException | None, handled: BaseException | None) -> bool:
    while error and error is not handled:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _comparable(setting: object) -> object:
    """Return a hashable copy of a transport setting, or raise TypeError if botocore does not document its type."""
    if isinstance(setting, Mapping):
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
    """Return what changes when a file is written, or None if there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# The parent process still uses its idle connections, which are not closed here.
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not have this
    os.register_at_fork(after_in_child=_idle.clear)
