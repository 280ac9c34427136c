"""``assume_role()``, and the session that it returns."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, SupportsIndex, cast

import boto3
import boto3.session
from boto3.resources.factory import ResourceFactory
from botocore.credentials import Credentials

from ._cache import CredentialCache, check_cache
from ._credentials import AssumedRoleCredentials
from ._keys import ExportedCredentials, seconds_of
from ._parameters import AutomaticRoleSessionName, build_request, check_chaining, check_request, raise_problems
from ._role import RoleFetcher, load_credentials
from ._session import ChildSession
from ._sts import check_region_name, check_sts_client_kwargs
from ._suggest import suggest_keywords


@suggest_keywords
def assume_role(
    session: boto3.session.Session,
    RoleArn: str,
    *,
    RoleSessionName: str | Callable[[], str] | AutomaticRoleSessionName | None = None,
    PolicyArns: Sequence[str | Mapping[str, object]] | None = None,
    Policy: Mapping[str, object] | str | None = None,
    DurationSeconds: int | timedelta | None = None,
    Tags: Mapping[str, str] | Sequence[Mapping[str, object]] | None = None,
    TransitiveTagKeys: Sequence[str] | None = None,
    ExternalId: str | None = None,
    SerialNumber: str | None = None,
    TokenCode: str | Callable[[], str] | None = None,
    SourceIdentity: str | None = None,
    ProvidedContexts: Sequence[Mapping[str, object]] | None = None,
    MinimumSessionTokenSize: int | None = None,
    additional_kwargs: Mapping[str, object] | None = None,
    region_name: str | bool | None = None,
    validate: bool = True,
    cache: CredentialCache | None = None,
    sts_client_kwargs: Mapping[str, object] | None = None,
) -> AssumedRoleSession:
    """Return a session that acts as a role, and refreshes its own credentials for as long as the process runs.

    This call does not contact STS. The first use of the session does, once, even from many threads, and later uses
    do so again before the credentials expire. To refresh, the session needs valid credentials of its parent, the
    session that you pass. This call does look up the parent's credentials, which on EC2, for example, contacts the
    metadata service. The returned session can itself be the parent of the next role.

    Every parameter of STS's `AssumeRole
    <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>`_ is a keyword with the same name. A
    parameter that is None is not sent.

    Args:
        session: The parent: the :class:`boto3.session.Session` that assumes the role. Its credentials sign the call
            to STS, and the returned session inherits its settings. The method of this name has no such argument: its
            own session is the parent.
        RoleArn: The ARN of the role to assume.
        RoleSessionName: The session's name in CloudTrail: 2 to 64 characters of ``[A-Za-z0-9_+=,.@-]``. Default: a
            ``SourceIdentity`` of at most 64 characters, else a generated name, which stays the same on every refresh.
            With :data:`AUTOMATIC_ROLE_SESSION_NAME`, a name is generated even if there is a ``SourceIdentity``. You can
            also pass a function without arguments that returns a name, such as :func:`generate_lambda_session_name`.
            The function is called before each call to STS, and its names are not part of the cache key. To make a name
            of any text, call :func:`make_session_name`.
        PolicyArns: Managed policies that restrict the session, at most 10: ARNs, or the API's ``{"arn": ARN}``.
        Policy: A policy that restricts the session: a mapping, or a string of JSON. It is sent as compact JSON, which
            may have at most 2048 characters. See `session policies
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session>`_.
        DurationSeconds: The lifetime of each set of credentials: 900 to 43200 seconds as an int, or a timedelta, up to
            the maximum that the role allows; at most 3600 if the parent is itself an assumed role (`role chaining
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining>`_). Default:
            STS's, 3600. This does not limit the lifetime of the session, which refreshes itself.
        Tags: Session tags, at most 50: a mapping, or the API's list of ``{"Key": ..., "Value": ...}``. Keys have 1 to
            128 characters, and values 0 to 256.
        TransitiveTagKeys: The keys of those tags that later roles in a chain inherit, at most 50. See `session tags
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>`_.
        ExternalId: The external ID that the role's trust policy requires: 2 to 1224 characters of
            ``[A-Za-z0-9_+=,.@:/-]``. See `external ID
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html>`_.
        SerialNumber: The ARN of an MFA device, or the serial number of a hardware device, 9 to 256 characters. Without
            a ``TokenCode``, you are prompted for a code on the terminal, or by a notebook, before each call to STS.
        TokenCode: A code of the MFA device, or a function without arguments that returns one. Requires
            ``SerialNumber``. A code, a string of six digits, works once: the credentials are used until they expire,
            and the next use raises ``RefreshWithMFAUnsupportedError``. A function is called before each call to STS,
            normally by one thread at a time.
        SourceIdentity: Who is behind the session: at least 2 characters of ``[A-Za-z0-9_+=,.@-]``, and as many as your
            botocore allows (64 before 1.44, then 256). Later roles in a chain inherit the source identity, and cannot
            change it. See `source identity
            <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>`_.
        ProvidedContexts: Trusted context assertions, at most 5, in the API's form.
        MinimumSessionTokenSize: The size to which STS pads the session token: 0 to 4096 bytes. Default: STS's, 0,
            which adds no padding. Requires a botocore version that supports it.
        additional_kwargs: Names and values of AssumeRole parameters that are not keywords here, such as those that
            AWS adds later. Your botocore must know them.
        region_name: The region of the new session. None follows the parent's region, looked up each time; a string
            sets the region; True keeps the region that the parent has now; False uses the environment and the
            config file, and ignores a region that was set in code on the parent.
        validate: Whether to check the parameters of AssumeRole now. With False, only the type of ``RoleArn`` is
            checked, and no service model is loaded.
        cache: Where to share credentials between sessions: any object with ``__getitem__``, ``__setitem__`` and
            ``__contains__``, such as a dict or :class:`JSONFileCache`. An entry is used only for the same request by
            the same identity. Cache failures are logged and never prevent you from getting credentials. Default:
            no cache.
        sts_client_kwargs: Options of the STS client: ``endpoint_url``, ``region_name``, ``config``, ``verify``,
            ``use_ssl``, ``api_version``, as for :meth:`boto3.session.Session.client`. Roles with the same parent and
            the same options share one client. It waits 5 seconds for a connection and 10 for a response, and makes as
            many attempts as botocore does by default. While the session has valid credentials, it makes one attempt,
            with 2 and 4 seconds. A ``Config``, passed here or as the parent's default, overrides the timeouts; a
            ``Config``, the environment and the profile override the number of attempts without valid credentials.

    Returns:
        A session, which is also an instance of whatever ``boto3.Session`` is at the time of the call, even if another
        library has replaced that class.

    Raises:
        TypeError: ``session`` is not a boto3 session, an argument that STS does not define has the wrong type, a
            parameter is passed twice, ``sts_client_kwargs`` has an option that is not in the list above, or, with
            ``validate=False``, ``RoleArn`` is not a string.
        ValueError: The ``endpoint_url`` in ``sts_client_kwargs`` is not an HTTP(S) URL, or contains a user name.
        botocore.exceptions.NoCredentialsError: The parent has no credentials.
        botocore.exceptions.ParamValidationError: STS would not accept the parameters. The error lists every problem,
            with two exceptions: a ``DurationSeconds`` of more than 3600 for a parent that is an assumed role, unless
            :func:`assume_role` returned that parent, and a key in ``TransitiveTagKeys`` that is neither in ``Tags`` nor
            can be inherited. These two depend on the parent's credentials, and are reported only when there is no
            other problem.
        botocore.exceptions.InvalidRegionError: A ``region_name``, here or in ``sts_client_kwargs``, cannot be a region.
        botocore.exceptions.DataNotFoundError: The ``api_version`` in ``sts_client_kwargs`` is not one of STS's.
        botocore.exceptions.ClientError: Raised when the session is used: STS refused, and there are no valid
            credentials left. If STS does not respond, one of botocore's connection errors is raised instead.
        botocore.exceptions.CredentialRetrievalError: Raised when the session is used: something other than STS
            responded, or there is no way to get the MFA code.
        botocore.exceptions.RefreshWithMFAUnsupportedError: Raised when the session is used: the one ``TokenCode`` has
            been used, and the credentials have expired.

    Example:
        >>> import boto3
        >>> from aws_assume_role_lib import assume_role
        >>> session = boto3.Session()
        >>> hub = assume_role(session, "arn:aws:iam::111111111111:role/Hub")
        >>> spoke = assume_role(hub, "arn:aws:iam::222222222222:role/Spoke", ExternalId="abc")
        >>> spoke.client("sts").get_caller_identity()["Account"]
        '222222222222'
    """
    _check_arguments(session, region_name, additional_kwargs, cache)
    if not (validate or isinstance(RoleArn, str)):
        raise TypeError(f"RoleArn is of type {type(RoleArn).__name__}; it must be a string. Pass the ARN of the role.")
    sts_client_kwargs = check_sts_client_kwargs(sts_client_kwargs)
    request = build_request(
        {
            "RoleArn": RoleArn,
            "RoleSessionName": RoleSessionName,
            "PolicyArns": PolicyArns,
            "Policy": Policy,
            "DurationSeconds": DurationSeconds,
            "Tags": Tags,
            "TransitiveTagKeys": TransitiveTagKeys,
            "ExternalId": ExternalId,
            "SerialNumber": SerialNumber,
            "TokenCode": TokenCode,
            "SourceIdentity": SourceIdentity,
            "ProvidedContexts": ProvidedContexts,
            "MinimumSessionTokenSize": MinimumSessionTokenSize,
        },
        additional_kwargs,
    )
    problems: list[str] = []
    if validate:
        model: Any = session._session.get_service_model("sts", sts_client_kwargs.get("api_version"))
        problems.extend(check_request(request, model.operation_model("AssumeRole").input_shape))
    if not isinstance(session, AssumedRoleSession):
        # Before loading the parent's credentials, which may run a program: an invalid call must not.
        raise_problems(problems)
    parent_credentials = load_credentials(session)
    if validate:
        raise_problems([*problems, *check_chaining(request, problems, parent_credentials)])
    fetcher = RoleFetcher(session, request, cache, sts_client_kwargs)
    credentials = AssumedRoleCredentials(fetcher)
    # boto3 internal, here and in other modules: _session is the botocore session. There is no public way to it, and no
    # fallback; other libraries read it, too. Covered by tests/test_internals.py.
    child = ChildSession(session._session, credentials, region_name)
    return session_class()(botocore_session=child, role_arn=RoleArn, assume_role_parent_session=session)


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

    # The function takes the parent first, so it is also the method that assumes the next role of a chain.
    assume_role = assume_role

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

    def get_credentials(self) -> Credentials:
        """Return the role's credentials, which refresh themselves; unlike ``boto3.Session``'s method, never None."""
        return cast(Credentials, super().get_credentials())

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
        credentials = cast(ChildSession, self._session).role_credentials
        return credentials.get_keys_valid_for(seconds_of(duration)).expires

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
        credentials = cast(ChildSession, self._session).role_credentials
        keys = credentials.get_keys() if valid_for is None else credentials.get_keys_valid_for(seconds_of(valid_for))
        return keys.export()

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


def _check_arguments(session: object, region_name: object, additional_kwargs: object, cache: object) -> None:
    # By name, because a library may have replaced boto3.Session with a subclass in every module that has it.
    if ("boto3.session", "Session") not in [(kind.__module__, kind.__name__) for kind in type(session).__mro__]:
        kind = f"{type(session).__module__}.{type(session).__qualname__}"
        raise TypeError(
            f"session is of type {kind}; it must be a boto3.Session. Pass boto3.Session(), or the session that is to "
            "assume the role."
        )
    if not (region_name is None or isinstance(region_name, (str, bool))):
        raise TypeError(
            f"region_name is of type {type(region_name).__name__}; it must be a string, True, False or None."
        )
    if isinstance(region_name, str):
        check_region_name(region_name)
    if not (additional_kwargs is None or isinstance(additional_kwargs, Mapping)):
        raise TypeError(f"additional_kwargs is of type {type(additional_kwargs).__name__}; it must be a dict.")
    check_cache(cache)
