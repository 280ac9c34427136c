"""The child session: its parent with other credentials. What is inherited, and what is not."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import Loader
from botocore.tokens import TokenProviderChain

from ._attempts import is_inside, run_foreign, share
from ._credentials import AssumedRoleCredentials
from ._family import Family, family_of
from ._handlers import builtin_handlers

# How many seconds a thread waits for another one to load a service before it loads the service itself.
LOADING_WAIT_LIMIT = 2


class InheritingSession(botocore.session.Session):
    """A botocore session that looks up its settings in another session each time."""

    def __init__(self, parent: botocore.session.Session, region_name: str | bool | None, **options: Any) -> None:
        self._parent = parent
        self._root: botocore.session.Session = parent._root if isinstance(parent, InheritingSession) else parent
        region = {} if region_name is None else {"region": _region_provider(self, parent, region_name)}
        super().__init__(**options)
        for name in USER_AGENT:
            delattr(self, name)
        # Empty, so that a role's session signs with the role's credentials, not with a bearer token, or fails.
        self.register_component("token_provider", TokenProviderChain())
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


def sign_as_the_role(signing_name: str, signature_version: str, context: Mapping[str, Any], **_: object) -> Any:
    # If AWS_BEARER_TOKEN_<SERVICE> is set, botocore chooses the bearer scheme for services that support it, whatever
    # the session's credentials. The value returned here takes precedence. botocore internals: the context's
    # auth_options and the scheme's name. If they are gone, botocore chooses the bearer scheme, for which a child has no
    # token, and the request fails. Covered by tests/test_internals.py.
    variable = f"AWS_BEARER_TOKEN_{signing_name.replace('-', '_').upper()}"
    if variable not in os.environ or "smithy.api#httpBearerAuth" not in (context.get("auth_options") or ()):
        return None
    return "v4" if signature_version == "bearer" else signature_version
