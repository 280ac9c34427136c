"""The aiobotocore session behind :func:`aws_assume_role_lib.aio.get_session`; importing this needs aiobotocore."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from concurrent.futures import Future
from typing import Any, SupportsIndex

from aiobotocore.credentials import AioCredentialResolver, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.credentials import CredentialProvider
from botocore.loaders import Loader

from .._assume import AssumedRoleSession
from .._attempts import copy_of, may_wait
from .._credentials import BLOCKING_WINDOW, AssumedRoleCredentials, botocore_attributes
from .._keys import Keys
from .._session import InheritingSession, sign_as_the_role
from .pickling import Part, comparable, is_open, keep, recipe_of, surroundings, unopened
from .pickling import load as load_session


class AioChildSession(InheritingSession, AioSession):
    """A child session for asyncio: the same settings and credentials, with aiobotocore's clients."""

    def __init__(self, session: AssumedRoleSession) -> None:
        child: Any = session._session
        super().__init__(child, None)
        self._session = session
        credentials = _AioCredentials(child.role_credentials)
        self.register_component("credential_provider", AioCredentialResolver([_RoleProvider(credentials)]))
        self.lazy_register_component("data_loader", lambda: _Loader(child.get_component("data_loader")))
        self.get_component("event_emitter").register_first("choose-signer", sign_as_the_role)

    def __copy__(self) -> AioChildSession:
        return self  # copied credentials would refresh separately

    def __deepcopy__(self, _: object) -> AioChildSession:
        return self

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[object, ...]:
        return load, recipe_of(self._session) if is_open(self) else vars(self)["_recipe"]


def load(*recipe: Part) -> object:
    """Return the session for asyncio that all pickles with this recipe load as in this process, created on first use.

    There is one, because s3fs keeps a file system, with its clients, for each session that it is given.
    """

    def create() -> object:
        session: Any = load_session(*recipe)
        return unopened(AioChildSession, recipe, lambda: AioChildSession(session))

    return keep(("asyncio", surroundings(recipe[0]), *map(comparable, recipe)), create)


class _RoleProvider(CredentialProvider):
    METHOD = "assume-role"

    def __init__(self, credentials: _AioCredentials) -> None:
        super().__init__()
        self._credentials = credentials

    async def load(self) -> _AioCredentials:
        return self._credentials


class _Loader:
    """The child's loader, with a copy of its search paths: aioboto3 appends boto3's folder for each session."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    @property
    def search_paths(self) -> list[str]:
        return list(self._loader.search_paths)


class _AioCredentials(AioDeferredRefreshableCredentials):
    """A role's credentials, for aiobotocore's clients."""

    def __init__(self, credentials: AssumedRoleCredentials) -> None:
        super().__init__(refresh_using=None, method=credentials.method)
        self._role_credentials = credentials

    async def _refresh(self) -> None:
        # aiobotocore internal: each accessor awaits this before it reads the attributes. aiobotocore's version has
        # fixed windows of 15 and 10 minutes, and a lock tied to one event loop. If it is gone, the
        # first use fails: these credentials cannot refresh any other way. Covered by tests/aio/test_aio_session.py.
        vars(self).update(botocore_attributes(await _get_keys(self._role_credentials)))


async def _get_keys(credentials: AssumedRoleCredentials) -> Keys:
    """Return the keys, refreshed first if due: one thread does it for all tasks of all event loops."""
    # Includes the process ID, because a forked child inherits the dictionary but not the threads.
    key = os.getpid(), credentials
    usable_until = credentials.expires_at - BLOCKING_WINDOW if key in _refreshes else credentials.refresh_at
    if time.time() < usable_until and credentials.keys:
        return credentials.keys
    if not may_wait():
        # A handler or callable inside a refresh runs this event loop; another thread would wait for that refresh.
        return credentials.get_keys()
    own: Future[Keys | BaseException] = Future()
    # A running future cannot be cancelled, so cancelling one task does not affect the others.
    own.set_running_or_notify_cancel()
    refresh = _refreshes.setdefault(key, own)
    if refresh is own:
        # Not in the event loop's executor: the program may have filled it with threads that wait for a task, and
        # asyncio.run() waits for its threads on exit.
        run = contextvars.copy_context().run
        try:
            threading.Thread(target=run, args=(_refresh, key, own), daemon=True).start()
        except RuntimeError:  # the system has no more threads, or the interpreter is about to exit
            _refresh(key, own)
    outcome = await asyncio.wrap_future(refresh)
    if isinstance(outcome, BaseException):
        raise copy_of(outcome)
    return outcome


_Key = tuple[int, AssumedRoleCredentials]
_refreshes: dict[_Key, Future[Keys | BaseException]] = {}


def _refresh(key: _Key, refresh: Future[Keys | BaseException]) -> None:
    try:
        outcome: Keys | BaseException = key[1].get_keys()
    except BaseException as error:
        outcome = error
    del _refreshes[key]
    refresh.set_result(outcome)
