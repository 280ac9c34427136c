"""Pickles a session as a recipe: what another process needs to assume the roles again, without any key or token."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider

from .._assume import AssumedRoleSession, assume_role, session_class
from .._cache import digest
from .._family import version_of_file
from .._file_cache import JSONFileCache
from .._identity import requested
from .._parameters import AUTOMATIC_ROLE_SESSION_NAME
from .._role import unordered
from .._session import USER_AGENT, ChildSession

# How many roots, roles and sessions for asyncio are kept for later sessions with the same recipe.
MAX_KEPT = 256


class Part(NamedTuple):
    """One session of a chain, without its parent.

    Attributes:
        text: JSON, in a fixed order, so that equal sessions have equal bytes. Empty for a root that pickles by itself.
        objects: What JSON cannot represent, by name: that root, and callables. The pickler that calls decides whether
            it accepts them: cloudpickle and dill accept functions that pickle rejects.
    """

    text: str
    objects: dict[str, Any]


Recipe = tuple[Part, ...]  # the root, then the roles


def recipe_of(session: AssumedRoleSession) -> Recipe:
    """Return what :func:`load` needs to create an equal session, or raise PicklingError."""
    roles: list[Part] = []
    above: Any = session
    while isinstance(above, AssumedRoleSession) and is_open(above):
        roles.append(_role(above))
        above = above.assume_role_parent_session
    start: Recipe = (_root(above),) if is_open(above) else vars(above)["_recipe"]
    return (*start, *reversed(roles))


def load(*recipe: Part) -> object:
    """Return a session that is created on first use."""
    return unopened(session_class(), recipe, lambda: copy.deepcopy(_shared(recipe)))


# Sessions that have been unpickled but not used


class Unopened:
    """Added to the class of a session that gets its attributes on first use.

    Unpickling must not fail for want of a profile or keys, because a scheduler may unpickle what only a worker uses.
    """

    def __getattr__(self, name: str) -> object:
        own = vars(self)
        # Notebooks and other libraries look for special methods of their own, which needs no keys.
        if "_opened" not in own and not (name.startswith("_") and name.endswith("_")):
            # setdefault() and update() are atomic: if several threads use the session at once, one of them publishes.
            opened = own.setdefault("_opened", own["_create"]())
            own.update({**vars(opened), **own})
        if "_opened" in own:
            return getattr(own["_opened"], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        if is_open(self) or not isinstance(self, AssumedRoleSession):
            return super().__repr__()
        return f"{type(self).__name__}(role_arn={self.role_arn!r}, not used yet)"


def unopened(kind: type, recipe: Recipe, create: Callable[[], object]) -> object:
    """Return an object of this kind whose attributes are those of what ``create()`` returns, on first use."""
    session: object = object.__new__(_unopened_class(kind))
    role_arn = json.loads(recipe[-1].text)["request"]["RoleArn"]
    vars(session).update(role_arn=role_arn, _recipe=recipe, _create=create)
    return session


@functools.cache
def _unopened_class(kind: type) -> type:
    return type(kind.__name__, (Unopened, kind), {"__module__": kind.__module__})


def is_open(session: object) -> bool:
    return not isinstance(session, Unopened) or "_opened" in vars(session)


# Writing


def _part(session: boto3.Session, content: Mapping[str, Any], objects: dict[str, Any]) -> Part:
    known = {name: value for name, value in content.items() if value is not None}
    try:
        return Part(json.dumps(known, sort_keys=True), objects)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(session, f"a parameter or setting is not plain data. {error}.") from None


def _refusal(session: boto3.Session, reason: str) -> pickle.PicklingError:
    owner = "The session that assumes the first role"
    if isinstance(session, AssumedRoleSession):
        owner = f"The session for {session.role_arn}"
    return pickle.PicklingError(f"{owner} cannot be pickled: {reason}")


def _role(session: AssumedRoleSession) -> Part:
    refusal = functools.partial(_refusal, session)
    if type(session).__module__.partition(".")[0] != __name__.partition(".")[0]:
        name = f"{type(session).__module__}.{type(session).__qualname__}"
        raise refusal(f"it is a {name}. Define __reduce_ex__() in that class.")
    child: Any = session._session
    if child.get_credentials() is not child.role_credentials:
        raise refusal("its credentials were replaced, and keys are never pickled. Call assume_role() again.")
    request, cache, sts_client_kwargs = child.role_credentials.fetcher.arguments
    if not isinstance(request.get("TokenCode"), (types.FunctionType, type(None))):
        kind = type(request["TokenCode"]).__name__
        raise refusal(f"its TokenCode is a {kind}, which may hold a secret. Pass a module's function instead.")
    if "ProvidedContexts" in request:
        raise refusal("its ProvidedContexts hold a token. Assume the role in the other process instead.")
    if cache is not None and type(cache) not in (dict, JSONFileCache):
        raise refusal(f"its cache is a {type(cache).__name__}, which may hold keys. Pass a JSONFileCache, or no cache.")
    objects = {name: value for name, value in request.items() if callable(value)}
    content = {
        "request": {name: value for name, value in unordered(request).items() if name not in objects},
        "region_name": child.region_choice,
        "cache": str(cache._folder) if isinstance(cache, JSONFileCache) else None if cache is None else {},
        "sts_client_kwargs": {name: _plain(value) for name, value in sts_client_kwargs.items()},
        **_settings_of(child, {}),
    }
    return _part(session, content, objects)


def _root(root: boto3.Session) -> Part:
    if _pickles_by_itself(type(root)):
        return Part("", {"session": root})
    refusal = functools.partial(_refusal, root)
    session: Any = root._session
    for kind in (type(root), type(session)):
        if kind not in (boto3.Session, AssumedRoleSession.__base__, botocore.session.Session, ChildSession.__base__):
            name = f"{kind.__module__}.{kind.__qualname__}"
            raise refusal(f"it is a {name}. Start from a boto3.Session, or define __reduce__() in that class.")
    credentials = session.get_credentials()
    if not _is_found(session, credentials):
        raise refusal(
            f"its {type(credentials).__name__} were set in code, and keys are never pickled. Have boto3 find them in a "
            "profile, the environment, or an instance or container role, here and in the other process."
        )
    fresh = {
        "user_agent_name": "Boto3",
        "user_agent_version": boto3.__version__,
        "user_agent_extra": f"Botocore/{botocore.__version__}",
    }
    return _part(root, _settings_of(session, fresh), {})


def _pickles_by_itself(kind: type) -> bool:
    methods = ("__reduce_ex__", "__reduce__", "__getstate__")  # Python 3.10's object has no __getstate__()
    return any(getattr(kind, name, None) is not getattr(object, name, None) for name in methods)


def _is_found(session: botocore.session.Session, credentials: object) -> bool:
    """Whether botocore itself found these credentials, and so would find them in another process."""
    method = getattr(credentials, "method", None)
    # A program that assumes a role by hand uses the same fetcher as botocore's provider.
    if method == "assume-role" and "role_arn" not in session.get_scoped_config():
        return False
    known = [kind.METHOD for kind in CredentialProvider.__subclasses__() if kind.__module__.startswith("botocore.")]
    return method in known and requested(credentials) is not None


def _settings_of(session: botocore.session.Session, fresh: Mapping[str, str]) -> dict[str, Any]:
    """Return what was set in code on a botocore session."""
    # The child's own config, not an inherited one.
    options: Any = _plain(botocore.session.Session.get_default_client_config(session))
    if options and options.get("retries"):
        # botocore makes this change when the first client is created; the pickle must be the same before and after.
        retries = dict(options["retries"])
        if "max_attempts" in retries:
            retries.setdefault("total_max_attempts", retries.pop("max_attempts") + 1)
        options["retries"] = {"mode": session.get_config_variable("retry_mode") or "legacy", **retries}
    agent = {name: vars(session)[name] for name in USER_AGENT if name in vars(session)}
    return {
        "client_config": options,
        "config_variables": session.instance_variables() or None,
        "user_agent": {name: value for name, value in agent.items() if value != fresh.get(name)} or None,
    }


def _plain(config: object) -> object:
    """Return a Config's options, and any other object as it is."""
    if not isinstance(config, Config):
        return config
    # botocore internal: a Config has no public way to tell passed options from defaults. If it is gone, options that
    # differ from the defaults are used. Covered by tests/test_internals.py.
    passed = vars(config).get("_user_provided_options")
    if passed is None:
        defaults = vars(Config())
        passed = {name: value for name, value in vars(config).items() if value != defaults.get(name)}
    return dict(passed)


# Reading


def _shared(recipe: Recipe) -> object:
    """Return this process's session for a recipe, whose credentials all loaded sessions with this recipe share.

    Otherwise, a worker would assume the role again for each task's session.
    """
    session: Any = None
    key: tuple[Hashable, ...] = (surroundings(recipe[0]),)
    for part in recipe:
        key = (*key, comparable(part))
        session = keep(key, functools.partial(_make_root if session is None else _make_role, part, session))
    return session


def keep(key: Hashable, create: Callable[[], object]) -> object:
    """Return this process's object for a key, created now or by an earlier call.

    There is no lock, because code that is not ours may run. If two threads create one at once, both use the first.
    """
    kept = _kept.get(key)
    if kept is None:
        kept = _kept.setdefault(key, create())
    with contextlib.suppress(KeyError):  # another thread may just have dropped it
        _kept.move_to_end(key)
        if len(_kept) > MAX_KEPT:
            _kept.popitem(last=False)
    return kept


_kept: OrderedDict[Hashable, object] = OrderedDict()


def surroundings(root: Part) -> str:
    """Return a digest of where boto3 looks for credentials. A root keeps what it found; a change needs a new root."""
    chosen = json.loads(root.text).get("config_variables", {}) if root.text else {}
    variables = {name: os.environ.get(name) for name in os.environ if name.startswith(("AWS_", "BOTO_CONFIG"))}
    files = [
        chosen.get("config_file") or variables.get("AWS_CONFIG_FILE") or "~/.aws/config",
        chosen.get("credentials_file") or variables.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        variables.get("BOTO_CONFIG") or "~/.boto",
    ]
    return digest([variables, [version_of_file(os.path.expanduser(file)) for file in files]])


def comparable(part: Part) -> Hashable:
    """Return what is equal for parts that make equal sessions, or at least for this part alone."""
    try:
        return pickle.dumps(part)
    except Exception:  # a lambda, which cloudpickle has loaded
        return object()


def _make_root(part: Part, _: None) -> boto3.Session:
    if not part.text:
        root: boto3.Session = part.objects["session"]
        return root
    content, session = json.loads(part.text), botocore.session.get_session()
    # Before creating the boto3 session, which reads the profile and the data path, and again after it, because it sets
    # its own user agent.
    _set(session, content)
    root = boto3.Session(botocore_session=session)
    _set(session, content)
    return root


def _make_role(part: Part, parent: boto3.Session) -> AssumedRoleSession:
    content = json.loads(part.text)
    cache, options = content.get("cache"), content["sts_client_kwargs"]
    if "config" in options:
        options["config"] = _config(options["config"])
    # A request without a name had a generated one, even with a SourceIdentity.
    request = {"RoleSessionName": AUTOMATIC_ROLE_SESSION_NAME, **content["request"], **part.objects}
    session = assume_role(
        parent,
        request.pop("RoleArn"),
        additional_kwargs=request,
        region_name=content.get("region_name"),
        validate=False,
        cache=JSONFileCache(cache) if isinstance(cache, str) else cache,
        sts_client_kwargs=options,
    )
    _set(session._session, content)
    return session


def _set(session: botocore.session.Session, content: Mapping[str, Any]) -> None:
    vars(session).update(content.get("user_agent", {}))
    for name, value in content.get("config_variables", {}).items():
        session.set_config_variable(name, value)
    if "client_config" in content:
        session.set_default_client_config(_config(content["client_config"]))


def _config(options: dict[str, Any]) -> Config:
    # botocore takes a certificate and its key only as a tuple, which JSON does not have.
    for owner, name in ((options, "client_cert"), (options.get("proxies_config") or {}, "proxy_client_cert")):
        if isinstance(owner.get(name), list):
            owner[name] = tuple(owner[name])
    return Config(**options)
