"""The child session: its parent with other credentials. What is inherited, and what is not."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, SupportsIndex

import boto3
import boto3.session
import botocore.session
from boto3.resources.factory import ResourceFactory
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import Loader

from ._attempts import is_inside, run_foreign, share
from ._family import Family, family_of
from ._handlers import builtin_handlers
from ._keys import ExportedCredentials, Keys, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from ._assume import AssumeRoleParameters
    from ._credentials import AssumedRoleCredentials


# How many seconds a thread waits for another one to load a service before it loads the service itself.
LOADING_WAIT_LIMIT = 2


class AssumedRoleSession(boto3.session.Session):
    """A :class:`boto3.session.Session` that acts as an assumed role, and refreshes its own credentials.

    :func:`~aws_assume_role_lib.assume_role` returns such a session. Use it wherever you use a ``boto3.Session``. Its
    credentials are the role's. Its region, profile settings, default client config, service models and user agent are
    the parent's, looked up each time. Event handlers registered on the parent are not copied.

    Unlike a plain ``boto3.Session``, the session can be shared between threads, which can all call ``client()`` and
    ``resource()``. The session can also be pickled: the other process gets a recipe without keys, and creates the
    session again with the credentials that boto3 finds there.

    Attributes:
        role_arn: The ARN of the role, as you passed it.
        assume_role_parent_session: The session that assumes the role.

    Example:
        >>> import boto3
        >>> from aws_assume_role_lib import assume_role
        >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
        >>> hub
        AssumedRoleSession(role_arn='arn:aws:iam::111111111111:role/Hub', region_name='us-east-1')
        >>> spoke = hub.assume_role("arn:aws:iam::222222222222:role/Spoke")
        >>> spoke.assume_role_parent_session is hub
        True
    """

    role_arn: str
    assume_role_parent_session: boto3.session.Session

    def __init__(
        self,
        *,
        botocore_session: ChildSession,
        role_arn: str,
        assume_role_parent_session: boto3.session.Session,
    ) -> None:
        self.role_arn = role_arn
        self.assume_role_parent_session = assume_role_parent_session
        super().__init__(botocore_session=botocore_session)

    def assume_role(self, RoleArn: str, **parameters: Unpack[AssumeRoleParameters]) -> AssumedRoleSession:
        """Assume the next role of a chain, with this session as the parent.

        This is the same as :func:`~aws_assume_role_lib.assume_role`, except that there is no ``session`` argument.

        Args:
            RoleArn: The ARN of the role to assume.
            **parameters: As for :func:`~aws_assume_role_lib.assume_role`.

        Returns:
            A session that acts as the role, and whose parent is this session.

        Raises:
            Exception: The same exceptions as :func:`~aws_assume_role_lib.assume_role`.

        Example:
            >>> import boto3
            >>> from aws_assume_role_lib import assume_role
            >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
            >>> spoke = hub.assume_role("arn:aws:iam::222222222222:role/Spoke", ExternalId="abc")
        """
        from ._assume import assume_role

        return assume_role(self, RoleArn, **parameters)

    def get_credentials(self) -> Credentials:
        """Return the role's credentials, which refresh themselves; unlike ``boto3.Session``'s method, never None."""
        credentials: Credentials | None = super().get_credentials()
        assert credentials is not None
        return credentials

    def ensure_valid_for(self, duration: float | timedelta) -> datetime:
        """Refresh the credentials now if less of their lifetime is left, and return when they expire.

        Afterwards, the credentials of this session, and of every client created from it, are valid for at least that
        long. Call this before you create something that dies with the credentials behind it, such as a presigned URL
        or a token for a database. Threads share the refresh like any other, and an entry of a cache that expires too
        early is not used.

        Args:
            duration: How long the credentials must stay valid: a number of seconds, or a timedelta, greater than 0.

        Returns:
            The time when the credentials expire, a datetime with the time zone UTC.

        Raises:
            TypeError: ``duration`` is neither a number nor a timedelta.
            ValueError: ``duration`` is not greater than 0, or longer than STS grants. Pass a longer
                ``DurationSeconds`` to :func:`~aws_assume_role_lib.assume_role`, up to the role's maximum.
            Exception: The refresh failed. The exceptions are those that :func:`~aws_assume_role_lib.assume_role` lists
                as raised when the session is used. Credentials that are still valid stay in use.

        Example:
            >>> import boto3
            >>> from aws_assume_role_lib import assume_role
            >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
            >>> expiry = hub.ensure_valid_for(1800)
            >>> url = hub.client("s3").generate_presigned_url(
            ...     "get_object", {"Bucket": "bucket", "Key": "key"}, ExpiresIn=1800
            ... )
        """
        return self._keys_valid_for(duration).expires

    def export_credentials(self, valid_for: float | timedelta | None = None) -> ExportedCredentials:
        """Return the role's credentials with their expiry, for code that cannot take a session.

        The credentials are refreshed first if a refresh is due. The returned value does not refresh: call this method
        again before ``expiry``.

        Args:
            valid_for: How long the credentials must stay valid, as for :meth:`ensure_valid_for`. Default: not longer
                than until the end of this call.

        Returns:
            An immutable :class:`ExportedCredentials`. Its repr shows neither the secret key nor the token.

        Raises:
            TypeError: ``valid_for`` is neither a number nor a timedelta.
            ValueError: As for :meth:`ensure_valid_for`.
            Exception: There are no valid credentials. The exceptions are those that
                :func:`~aws_assume_role_lib.assume_role` lists as raised when the session is used.

        Example:
            >>> import boto3
            >>> from aws_assume_role_lib import assume_role
            >>> hub = assume_role(boto3.Session(), "arn:aws:iam::111111111111:role/Hub")
            >>> keys = hub.export_credentials()
            >>> keys.account_id
            '111111111111'
            >>> keys.expiry.tzinfo
            datetime.timezone.utc
        """
        if valid_for is not None:
            return self._keys_valid_for(valid_for).export()
        botocore_session: Any = self._session
        keys: Keys = botocore_session.role_credentials.get_keys()
        return keys.export()

    def _keys_valid_for(self, duration: float | timedelta) -> Keys:
        botocore_session: Any = self._session
        keys: Keys = botocore_session.role_credentials.get_keys_valid_for(seconds_of(duration))
        return keys

    def __copy__(self) -> AssumedRoleSession:
        # A copy shares its credentials: copied ones would refresh separately.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> AssumedRoleSession:
        # Not through __init__(), where boto3 would register its handlers on the copy a second time.
        copied = copy.copy(self)
        session = copy.deepcopy(self._session, memo)
        vars(copied).update(_session=session, resource_factory=ResourceFactory(session.get_component("event_emitter")))
        return copied

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[object, ...]:
        # Imported here because most programs never pickle a session.
        from ._travel.pickling import load, recipe_of

        return load, recipe_of(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(role_arn={self.role_arn!r}, region_name={self.region_name!r})"

    def _setup_loader(self) -> None:
        # boto3 internal: it appends boto3's data folder to the loader's search paths. This loader is the parent's and
        # already has it; appending it again for each child would make the list longer and lookups slower. If the hook
        # is gone, that happens. Covered by tests/test_internals.py.
        self._loader = self._session.get_component("data_loader")


def session_class() -> type[AssumedRoleSession]:
    """AssumedRoleSession, as a subclass of whatever ``boto3.Session`` is now."""
    current = boto3.Session
    if not isinstance(current, type) or issubclass(AssumedRoleSession, current):
        return AssumedRoleSession
    return _subclass(current)


@functools.cache
def _subclass(current: type) -> type[AssumedRoleSession]:
    return type("AssumedRoleSession", (AssumedRoleSession, current), {})


class InheritingSession(botocore.session.Session):
    """A botocore session that looks up its settings in another session each time."""

    def __init__(self, parent: botocore.session.Session, region_name: str | bool | None, **options: Any) -> None:
        self._parent = parent
        self._root: botocore.session.Session = parent._root if isinstance(parent, InheritingSession) else parent
        region = {} if region_name is None else {"region": _region_provider(self, parent, region_name)}
        super().__init__(**options)
        for name in USER_AGENT:
            delattr(self, name)
        self.register_component("token_provider", _NoTokens())
        self.register_component("config_store", _InheritedConfig(self, parent, region))

    def __getattr__(self, name: str) -> Any:
        if name in USER_AGENT:
            return getattr(self._parent, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def full_config(self) -> dict[str, Any]:
        return self._root.full_config

    def get_default_client_config(self) -> Config:
        """Return the child's own default client config, or else the parent's."""
        own = super().get_default_client_config()
        return self._parent.get_default_client_config() if own is None else own


class ChildSession(InheritingSession):
    """A botocore session that is its parent with other credentials."""

    def __init__(
        self,
        parent: botocore.session.Session,
        credentials: AssumedRoleCredentials,
        region_name: str | bool | None,
        emitter: HierarchicalEmitter | None = None,
    ) -> None:
        self.role_credentials = credentials
        self._aws_assume_role_lib = Family(family_of(parent))
        # Pickled instead of the resolved region. True is replaced by the region that it fixed.
        self.region_choice = region_name
        if region_name is True:
            self.region_choice = parent.get_config_variable("region") or True
        handlers = emitter or builtin_handlers()
        self._emitter = handlers or HierarchicalEmitter()
        super().__init__(parent, region_name, event_hooks=self._emitter, include_builtin_handlers=handlers is None)
        self.register_component("credential_provider", CredentialResolver([_RoleProvider(credentials)]))
        self.register_component("data_loader", parent.get_component("data_loader"))
        self.register_component("response_parser_factory", parent.get_component("response_parser_factory"))
        if emitter is None:
            self.get_component("event_emitter").register_first("choose-signer", sign_as_the_role)

    def create_client(self, service_name: str, *args: Any, **kwargs: Any) -> Any:
        """Create a client as botocore does, but load each service once, and use the family's connections."""
        loader, version = self.get_component("data_loader"), kwargs.get("api_version")
        key = ("service", id(loader), service_name, version)
        if not is_inside(key):  # as in a handler of the records that botocore logs while it loads
            load = functools.partial(run_foreign, _load_service, loader, service_name, version)
            share(key, load, LOADING_WAIT_LIMIT)
        client = super().create_client(service_name, *args, **kwargs)
        self._aws_assume_role_lib.share_connections(client)
        return client

    def __deepcopy__(self, _: object) -> ChildSession:
        # Settings and handlers are the copy's own. Credentials are shared: copied ones would refresh separately.
        copied = ChildSession(self._parent, self.role_credentials, self.region_choice, copy.copy(self._emitter))
        for name, value in self.instance_variables().items():
            copied.set_config_variable(name, value)
        config = botocore.session.Session.get_default_client_config(self)
        if config is not None:
            copied.set_default_client_config(config)
        vars(copied).update({name: vars(self)[name] for name in USER_AGENT if name in vars(self)})
        return copied


def _load_service(loader: Loader, service_name: str, api_version: str | None) -> None:
    # The loader keeps what it has loaded, by exactly these arguments, which are botocore's. Whatever fails here fails
    # again, with its error, when the client is created.
    with contextlib.suppress(Exception):
        loader.load_service_model(service_name, "service-2", api_version=api_version)
        loader.load_service_model(service_name, "endpoint-rule-set-1", api_version=api_version)


USER_AGENT = ("user_agent_name", "user_agent_version", "user_agent_extra")


# botocore internal: with a defaults mode, botocore overrides a variable whose provider is not of this type. If it is
# gone, a defaults mode takes precedence over settings made on a child. Covered by tests/test_internals.py.
_BaseProvider: Any = getattr(getattr(botocore, "configprovider", None), "BaseProvider", object)


class _Provider(_BaseProvider):  # type: ignore[misc]  # see above
    """Adapts a function that returns a config variable's value to botocore's interface."""

    def __init__(self, provide: Callable[[], object]) -> None:
        self.provide = provide

    def set_default_provider(self, *_: object) -> None:
        """Do nothing: a defaults mode adds to a section, such as s3, only where it is not set on a session."""


def _region_provider(child: InheritingSession, parent: botocore.session.Session, region_name: str | bool) -> _Provider:
    fixed = parent.get_config_variable("region") if region_name is True else region_name

    def region() -> object:
        own = child.instance_variables().get("region")
        if own is not None or fixed is not False:
            return fixed if own is None else own
        if "AWS_DEFAULT_REGION" in os.environ:
            return os.environ["AWS_DEFAULT_REGION"]
        return child.get_scoped_config().get("region")

    return _Provider(region)


class _InheritedConfig:
    """Config variables: the child's own value if it has one, otherwise the parent's, looked up each time.

    It has the methods of botocore's ``ConfigValueStore``.
    """

    def __init__(self, child: InheritingSession, parent: botocore.session.Session, own: dict[str, Any]) -> None:
        self._child = child
        self._parent = parent
        self._own = dict(own)

    def get_config_provider(self, logical_name: str) -> Any:
        if logical_name in self._own:
            return self._own[logical_name]
        if logical_name in self._child.instance_variables():
            return _Provider(lambda: self._child.instance_variables().get(logical_name))
        return self._parent.get_component("config_store").get_config_provider(logical_name)

    def get_config_variable(self, logical_name: str) -> object:
        # A loop, because recursion would limit the length of a chain.
        config: Any = self
        while isinstance(config, _InheritedConfig):
            if logical_name in config._own or logical_name in config._child.instance_variables():
                return config.get_config_provider(logical_name).provide()
            config = config._parent.get_component("config_store")
        return config.get_config_variable(logical_name)

    def set_config_provider(self, logical_name: str, provider: object) -> None:
        self._own[logical_name] = provider

    def set_config_variable(self, logical_name: str, value: object) -> None:
        self._own[logical_name] = _Provider(lambda: value)

    def clear_config_variable(self, logical_name: str) -> None:
        self._own.pop(logical_name, None)

    def __copy__(self) -> _InheritedConfig:
        # botocore copies this for each client, and adds the client's endpoint and defaults mode to the copy.
        return _InheritedConfig(self._child, self._parent, self._own)


class _RoleProvider(CredentialProvider):
    METHOD = "assume-role"

    def __init__(self, credentials: AssumedRoleCredentials) -> None:
        super().__init__()
        self._role_credentials = credentials

    def load(self) -> AssumedRoleCredentials:
        return self._role_credentials


class _NoTokens:
    """Never returns a bearer token, so that a role's session signs with the role's credentials or fails."""

    def load_token(self, **_: object) -> None:
        return None


def sign_as_the_role(signing_name: str, signature_version: str, context: Mapping[str, Any], **_: object) -> Any:
    # If AWS_BEARER_TOKEN_<SERVICE> is set, botocore chooses the bearer scheme for services that support it, whatever
    # the session's credentials. The value returned here takes precedence. botocore internals: the context's
    # auth_options and the scheme's name. If they are gone, botocore chooses the bearer scheme, for which a child has no
    # token, and the request fails. Covered by tests/test_internals.py.
    variable = f"AWS_BEARER_TOKEN_{signing_name.replace('-', '_').upper()}"
    if variable not in os.environ or "smithy.api#httpBearerAuth" not in (context.get("auth_options") or ()):
        return None
    return "v4" if signature_version == "bearer" else signature_version
