"""Pickles a session as a recipe for creating it again, without any key, token or MFA code."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import inspect
import json
import os
import pickle
import traceback
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import boto3
import boto3.session
import botocore
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials

from .._cache import digest
from .._credentials import AssumedRoleCredentials
from .._family import version_of_file
from .._file_cache import JSONFileCache
from .._role import RoleFetcher, load_credentials, unordered
from .._session import USER_AGENT, AssumedRoleSession, ChildSession, session_class

# How many roots and roles are kept for later sessions with the same recipe.
MAX_SHARED = 256
# AssumeRole's parameters and a Config are never nested this deeply; a list that contains itself is.
MAX_DEPTH = 20
# The attributes that a session's methods use. Without credentials, reading one raises the same as a call.
USED_BY_METHODS = ("_session", "_loader", "resource_factory", "assume_role_parent_session")


class Part(NamedTuple):
    """One session of a chain, without its parent.

    Attributes:
        text: JSON, in a fixed order, so that equal sessions have equal bytes. Empty for a root that has its own pickle
            support. Arrays begin with what they are: a list, a tuple, UNSIGNED or the index of an object.
        objects: Values that JSON cannot represent, such as callables.
    """

    text: str
    objects: tuple[Any, ...] = ()


Recipe = tuple[Part, ...]  # the root, then the roles


def reduce(session: AssumedRoleSession) -> tuple[Callable[..., AssumedRoleSession], Recipe]:
    """Return the value for ``__reduce_ex__()``, or raise PicklingError."""
    roles: list[Part] = []
    above: Any = session
    while isinstance(above, AssumedRoleSession) and not isinstance(above, Unopened):
        roles.append(_role(above))
        above = above.assume_role_parent_session
    recipe: Recipe = vars(above)["_recipe"] if isinstance(above, Unopened) else (_root(above),)
    return load, (*recipe, *reversed(roles))


def load(*recipe: Part) -> AssumedRoleSession:
    """Return a session that is created on first use, so that unpickling never fails for want of a profile or keys."""
    kind: type = session_class()
    session = object.__new__(_unopened_class(kind))
    vars(session).update(_recipe=recipe, _kind=kind)
    return session


class Unopened(AssumedRoleSession):
    """A session that has been unpickled but not used. Its first use turns it into an ordinary one."""

    def __getattr__(self, name: str) -> object:
        if name == "role_arn":
            return _read(vars(self)["_recipe"][-1])["request"]["RoleArn"]
        unknown = AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name.startswith("__"):  # other libraries probe for their own special methods
            raise unknown
        try:
            own = _open(self)
        except Exception as error:
            if name in USED_BY_METHODS:
                raise
            raise unknown from error  # hasattr() would raise any other error
        # setdefault() and update() are atomic: if several threads use the session at once, one of them publishes.
        opened: AssumedRoleSession = vars(self).setdefault("_opened", own)
        if opened is own:
            vars(self).update(vars(opened))
            self.__class__ = type(opened)  # type: ignore[assignment]  # a superclass with the same layout
        return getattr(opened, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(role_arn={self.role_arn!r}, not used yet)"


@functools.cache
def _unopened_class(kind: type) -> type[AssumedRoleSession]:
    return type(kind.__name__, (Unopened, kind), {})


# Writing

Refusal = Callable[[str], pickle.PicklingError]


def _part(refusal: Refusal, content: Mapping[str, Any]) -> Part:
    objects: list[tuple[str, Any]] = []

    def encoded(name: str, value: object, depth: int = 0) -> object:
        if depth > MAX_DEPTH:
            raise refusal(f"its {name} is nested too deeply, or contains itself.")
        if value is None or isinstance(value, str) or type(value) in (bool, int, float):
            return value
        if type(value) is list or type(value) is tuple:
            return [type(value).__name__, *(encoded(name, item, depth + 1) for item in value)]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            # A refusal names the parameter or option, not "request" around it or a key inside it.
            return {key: encoded(key if depth < 2 else name, value[key], depth + 1) for key in sorted(value)}
        if value is botocore.UNSIGNED:
            return ["UNSIGNED"]
        objects.append((name, value))
        return ["object", len(objects) - 1]

    text = json.dumps(encoded("", {name: value for name, value in content.items() if value is not None}))
    if objects and not _by_value():
        for name, value in objects:
            try:
                pickle.dumps(value)
            except Exception as error:
                raise refusal(
                    f"its {name} cannot be pickled. Define it at the top level of a module that the other process can "
                    "import, or pickle the session with cloudpickle."
                ) from (error.__cause__ or error)
    return Part(text, tuple(value for _, value in objects))


def _refusal(owner: str, reason: str) -> pickle.PicklingError:
    return pickle.PicklingError(f"{owner} cannot be pickled: {reason}")


def _role(session: AssumedRoleSession) -> Part:
    refusal = functools.partial(_refusal, f"The session for {session.role_arn}")
    if type(session).__module__ != AssumedRoleSession.__module__:
        raise refusal(
            f"it is a {type(session).__module__}.{type(session).__qualname__}. Define __reduce_ex__() in that class."
        )
    child: Any = session._session
    credentials: AssumedRoleCredentials = child.role_credentials
    if child.get_credentials() is not credentials:
        raise refusal(
            "its credentials were replaced, and keys are never pickled. Pickle a session whose credentials are those "
            "that assume_role() gave it."
        )
    request, cache, sts_client_kwargs = credentials.fetcher.arguments
    token_code = request.get("TokenCode")
    if token_code is not None and not callable(token_code):
        raise refusal(
            "its TokenCode is a single code, which STS accepts once. Pass a function that returns a code, defined at "
            "the top level of a module."
        )
    if token_code is not None and not isinstance(token_code, types.FunctionType):
        raise refusal(
            f"its TokenCode is a {type(token_code).__name__}, whose state would be pickled too, and may hold the "
            "device's secret. Pass a function, defined at the top level of a module, that looks the secret up."
        )
    if "ProvidedContexts" in request:
        raise refusal(
            "its ProvidedContexts hold an assertion, which is a token. Assume the role in the other process instead."
        )
    if isinstance(sts_client_kwargs.get("config"), Config):
        sts_client_kwargs = {**sts_client_kwargs, "config": _options_of(sts_client_kwargs["config"])}
    return _part(
        refusal,
        {
            "request": unordered(request),
            "region_name": child.region_choice,
            "cache": _cache(refusal, cache),
            "sts_client_kwargs": sts_client_kwargs or None,
            **_settings_of(child, {}),
        },
    )


def _cache(refusal: Refusal, cache: object) -> tuple[object, ...] | None:
    if cache is None:
        return None
    kind: type = type(cache)
    arguments = (str(cache._folder),) if isinstance(cache, JSONFileCache) else ()
    try:
        inspect.signature(kind).bind(*arguments)
    except TypeError:
        raise refusal(
            f"its cache is not pickled but created again, and {kind.__name__} needs arguments. Pass a JSONFileCache, "
            "or no cache."
        ) from None
    except ValueError:  # a class written in C, such as dict, may not have a signature
        pass
    return (kind, *arguments)


def _root(root: boto3.session.Session) -> Part:
    if _pickles_by_itself(type(root)):
        return Part("", (root,))
    refusal = functools.partial(_refusal, "The session that assumes the first role")
    session: Any = root._session
    for own, known in (
        (root, (boto3.Session, AssumedRoleSession.__base__)),
        (session, (botocore.session.Session, ChildSession.__base__)),
    ):
        if type(own) not in known:
            raise refusal(
                f"it is a {type(own).__module__}.{type(own).__qualname__}. Start from a boto3.Session, or define "
                "__reduce__() in a subclass of it."
            )
    credentials = session.get_credentials()
    method = getattr(credentials, "method", None)
    if type(credentials).__module__ != Credentials.__module__ or not _is_found(session, credentials):
        what = "access keys" if method == "explicit" else f"credentials ({type(credentials).__name__})"
        raise refusal(
            f"it has {what} that were set in code, and keys are never pickled. Have boto3 find credentials in a "
            "profile, the environment, or an instance or container role, here and in the other process."
        )
    fresh = {
        "user_agent_name": "Boto3",
        "user_agent_version": boto3.__version__,
        "user_agent_extra": f"Botocore/{botocore.__version__}",
    }
    return _part(refusal, _settings_of(session, fresh))


def _pickles_by_itself(kind: type) -> bool:
    methods = ("__reduce_ex__", "__reduce__", "__getstate__")  # Python 3.10's object has no __getstate__()
    defined = any(getattr(kind, name, None) is not getattr(object, name, None) for name in methods)
    return defined or kind in copyreg.dispatch_table


def _is_found(session: botocore.session.Session, credentials: object) -> bool:
    """Whether botocore itself found these credentials, and so would find them in another process."""
    method = getattr(credentials, "method", None)
    # Code that creates RefreshableCredentials often passes "assume-role" as the method.
    if method == "assume-role" and "role_arn" not in session.get_scoped_config():
        return False
    # botocore internal: what fetches the keys. If it is gone, only the method tells whose credentials they are. Covered
    # by tests/test_internals.py.
    refresh = getattr(credentials, "_refresh_using", None)
    if refresh is not None and not str(getattr(refresh, "__module__", None)).startswith("botocore."):
        return False
    providers = [kind for kind in CredentialProvider.__subclasses__() if kind.__module__ == Credentials.__module__]
    return method in [kind.METHOD for kind in providers]


def _settings_of(session: botocore.session.Session, fresh: Mapping[str, str]) -> dict[str, Any]:
    """Return what was set in code on a botocore session."""
    # The child's own config, not an inherited one.
    config = botocore.session.Session.get_default_client_config(session)
    options = None if config is None else _options_of(config)
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


def _options_of(config: Config) -> dict[str, Any]:
    # botocore internal: a Config has no public way to tell passed options from defaults. If it is gone, options that
    # differ from the defaults are used. Covered by tests/test_internals.py.
    passed = vars(config).get("_user_provided_options")
    if passed is None:
        defaults = vars(Config())
        passed = {name: value for name, value in vars(config).items() if value != defaults.get(name)}
    return dict(passed)


def _by_value() -> bool:
    """Whether cloudpickle or dill, which accept functions that pickle rejects, is calling.

    The call stack is the only way to know: a reducer is not told which pickler calls it.
    """
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None))
    return any({"cloudpickle", "dill"} & set(str(name).split(".")) for name in names)


# Reading


def _read(part: Part) -> dict[str, Any]:
    def decoded(value: object) -> object:
        if isinstance(value, dict):
            return {key: decoded(item) for key, item in value.items()}
        if not isinstance(value, list):
            return value
        kind, *items = value
        if kind == "UNSIGNED":
            return botocore.UNSIGNED
        if kind == "object":
            return part.objects[items[0]]
        return tuple(map(decoded, items)) if kind == "tuple" else list(map(decoded, items))

    content = decoded(json.loads(part.text))
    assert isinstance(content, dict)
    return content


def _open(session: Unopened) -> AssumedRoleSession:
    # Sessions share credentials: otherwise, a worker would assume the role again for each task's session.
    recipe: Recipe = vars(session)["_recipe"]
    shared: Any = _shared(recipe)
    parent: Any = shared.assume_role_parent_session
    credentials: AssumedRoleCredentials = vars(shared._session)["role_credentials"]
    return _session_of(vars(session)["_kind"], parent, credentials, _read(recipe[-1]))


def _shared(recipe: Recipe) -> object:
    """Return this process's shared session for a recipe, created now or by an earlier call.

    There is no lock, because code that is not ours may run. If two threads create one at once, both use the first.
    """
    session: Any = None
    key: tuple[Hashable, ...] = (_surroundings(recipe[0]),)
    for part in recipe:
        key = (*key, _comparable(part))
        known = _sessions.get(key)
        if known is None:
            known = _make_root(part) if session is None else _make_role(session, part)
            known = _sessions.setdefault(key, known)
        session = known
        with contextlib.suppress(KeyError):  # another thread may just have dropped it
            _sessions.move_to_end(key)
            if len(_sessions) > MAX_SHARED:
                _sessions.popitem(last=False)
    return session


_sessions: OrderedDict[Hashable, boto3.session.Session] = OrderedDict()


def _surroundings(root: Part) -> str:
    """Return a digest of where boto3 looks for credentials. A root keeps what it found; a change needs a new root."""
    chosen = _read(root).get("config_variables", {}) if root.text else {}
    variables = {name: os.environ.get(name) for name in os.environ if name.startswith(("AWS_", "BOTO_CONFIG"))}
    files = [
        chosen.get("config_file") or variables.get("AWS_CONFIG_FILE") or "~/.aws/config",
        chosen.get("credentials_file") or variables.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        variables.get("BOTO_CONFIG") or "~/.boto",
    ]
    return digest([variables, [version_of_file(os.path.expanduser(file)) for file in files]])


def _comparable(part: Part) -> Hashable:
    try:
        if not part.text:
            # A root with its own pickle support, which may not define equality.
            return hashlib.sha256(pickle.dumps(part.objects)).digest()
        hash(part)
    except Exception:
        return object()
    return part


def _make_root(part: Part) -> boto3.session.Session:
    if not part.text:
        root: boto3.session.Session = part.objects[0]
        return root
    content = _read(part)
    session = botocore.session.get_session()
    # Before creating the boto3 session, which reads the profile and the data path.
    _set(session, content)
    root = boto3.Session(botocore_session=session)
    vars(session).update(content.get("user_agent", {}))
    return root


def _make_role(parent: boto3.session.Session, part: Part) -> AssumedRoleSession:
    load_credentials(parent)
    content = _read(part)
    kind, *arguments = content.get("cache", (type(None),))
    sts_client_kwargs = dict(content.get("sts_client_kwargs", {}))
    if "config" in sts_client_kwargs:
        sts_client_kwargs["config"] = Config(**sts_client_kwargs["config"])
    credentials = AssumedRoleCredentials(RoleFetcher(parent, content["request"], kind(*arguments), sts_client_kwargs))
    return _session_of(session_class(), parent, credentials, content)


def _session_of(
    kind: type[AssumedRoleSession],
    parent: boto3.session.Session,
    credentials: AssumedRoleCredentials,
    content: Mapping[str, Any],
) -> AssumedRoleSession:
    child = ChildSession(parent._session, credentials, content.get("region_name"))
    _set(child, content)
    vars(child).update(content.get("user_agent", {}))
    return kind(botocore_session=child, role_arn=content["request"]["RoleArn"], assume_role_parent_session=parent)


def _set(session: botocore.session.Session, content: Mapping[str, Any]) -> None:
    for name, value in content.get("config_variables", {}).items():
        session.set_config_variable(name, value)
    if "client_config" in content:
        session.set_default_client_config(Config(**content["client_config"]))
