"""The page on data tools is true: which of them refresh a role's keys, and which hold them until they expire."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow.fs
import pytest
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store
from pages import blocks
from sts_stub import StsStub
from werkzeug.serving import WSGIRequestHandler, make_server

PAGE = Path(__file__).parents[2] / "docs/guides/data-tools.md"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


class S3:
    """moto's S3, which records the keys that requests are signed with, and refuses expired ones."""

    def __init__(self, sts: StsStub) -> None:
        self.keys: list[str] = []
        self.refused: list[str] = []
        self._sts = sts
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: Any = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        signed = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        key = signed[1] if signed else ""
        issued = self._sts.issued.get(key)
        if issued and issued.expires <= time.time():
            self.refused.append(key)
            headers = {"Content-Type": "application/xml", "Content-Length": str(len(EXPIRED))}
            start_response("400 Bad Request", list(headers.items()))
            return [EXPIRED]
        self.keys.append(key)
        return self._moto(environ, start_response)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


# One for all tests: polars keeps stores, and the providers of their keys, for as long as the process lives.
@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[StsStub, S3, types.ModuleType]]:
    with StsStub() as stub:
        server = S3(stub)
        yield stub, server, types.ModuleType("page")
        requests.post(f"{server.url}/moto-api/reset", timeout=10)
        server.close()


@pytest.fixture
def sts(servers: Any) -> StsStub:
    stub: StsStub = servers[0]
    stub.lifetime = 2
    return stub


@pytest.fixture
def s3(servers: Any, monkeypatch: pytest.MonkeyPatch) -> S3:
    stub, server, _ = servers
    settings = {
        "AWS_ACCESS_KEY_ID": "AKIAROOT",
        "AWS_SECRET_ACCESS_KEY": "root-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_STS": stub.url,
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_ALLOW_HTTP": "true",
        "SEARCH_URL": server.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # pyarrow ignores such variables when it is given keys, and PyIceberg uses pyarrow.
    real = pyarrow.fs.S3FileSystem
    monkeypatch.setattr(
        pyarrow.fs, "S3FileSystem", lambda **options: real(**{**options, "endpoint_override": server.url})
    )
    server.refused.clear()
    return server  # type: ignore[no-any-return]


@pytest.fixture
def page(servers: Any, s3: S3, sts: StsStub, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The names that the page's blocks define, each of which has run; the keys of its session are due for a refresh."""
    module = servers[2]
    monkeypatch.setitem(sys.modules, "page", module)
    if not hasattr(module, "session"):
        boto3.client("s3").create_bucket(Bucket="my-bucket")
        for block in blocks(PAGE):
            if block.language == "python":
                block.execute(PAGE, vars(module))
    module.session.get_credentials().refresh_at = 0.0
    return module


def until(happened: Callable[[], object], use: Callable[[], object]) -> None:
    """Use something until something has happened."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        use()


Use = Callable[[], object]


def obstore(page: Any) -> Use:
    store = S3Store("my-bucket", credential_provider=page.obstore_credentials)
    return lambda: store.get("greeting.txt").bytes()


def polars(page: Any) -> Use:
    # polars keeps the keys of each function that it is given.
    def credentials() -> Any:
        return page.polars_credentials()

    return lambda: page.polars.read_parquet("s3://my-bucket/numbers.parquet", credential_provider=credentials)


def pyarrow_on_obstore(page: Any) -> Use:
    # fsspec keeps a file system for each combination of arguments.
    store = page.FsspecStore("s3", credential_provider=lambda: page.obstore_credentials())
    files = page.pyarrow.fs.PyFileSystem(page.pyarrow.fs.FSSpecHandler(store))
    return lambda: files.open_input_file("my-bucket/greeting.txt").read()


# Creates an object as the page does, and returns a function that uses it.
REFRESHING: dict[str, Callable[[Any], Use]] = {
    "obstore": obstore,
    "polars": polars,
    "pyarrow": pyarrow_on_obstore,
    "opensearch-py": lambda page: page.search.ping,
    "requests-aws4auth": lambda page: lambda: requests.get(page.os.environ["SEARCH_URL"], auth=page.auth, timeout=10),
}


def duck(page: Any, s3: S3) -> Use:
    # The extension comes with a package, so that nothing is downloaded.
    pytest.importorskip("duckdb_extensions").import_extension("httpfs")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"SET s3_endpoint = '{s3.url[7:]}'; SET s3_use_ssl = false; SET s3_url_style = 'path'")
    page.renew_secret(connection)
    return lambda: connection.sql("FROM 's3://my-bucket/numbers.parquet'").fetchall()


def pyarrow_alone(page: Any, s3: S3) -> Use:
    files = page.pyarrow_files()
    return lambda: files.open_input_file("my-bucket/numbers.parquet").read()


def deltalake(page: Any, s3: S3) -> Use:
    return page.DeltaTable("s3://my-bucket/table", storage_options=page.storage_options()).to_pyarrow_table


def iceberg(page: Any, s3: S3) -> Use:
    io = page.iceberg_io()
    return lambda: io.new_input("s3://my-bucket/greeting.txt").open().read()


STATIC = {"pyarrow": pyarrow_alone, "deltalake": deltalake, "PyIceberg": iceberg, "DuckDB": duck}


@pytest.mark.parametrize("library", REFRESHING)
def test_a_library_that_refreshes(page: Any, s3: S3, library: str) -> None:
    """A library that the page says refreshes keeps working past the expiry of its keys, and no key is refused."""
    use = REFRESHING[library](page)
    s3.keys.clear()

    def use_once() -> None:
        # A polars request has been seen to arrive with keys that had expired a moment before.
        with contextlib.suppress(OSError if library == "polars" else ()):
            use()

    until(lambda: len(set(s3.keys)) > 2, use_once)
    assert len(s3.refused) <= (2 if library == "polars" else 0)


@pytest.mark.parametrize("library", STATIC)
def test_a_library_that_holds_static_keys(
    page: Any, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """A library that the page says holds static keys fails when they expire, until it is given new ones."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where DuckDB installs its extension
    use = STATIC[library](page, s3)
    use()
    failures: list[Exception] = []

    def use_once() -> None:
        try:
            use()
        except Exception as error:
            failures.append(error)

    until(lambda: failures, use_once)
    assert s3.refused
    STATIC[library](page, s3)()


def test_the_boto3_adapter_of_obstore_misjudges_the_expiry(page: Any, s3: S3) -> None:
    """obstore's adapter for boto3 keeps using expired keys, as the page warns."""
    store = S3Store("my-bucket", credential_provider=Boto3CredentialProvider(page.session))
    store.get("greeting.txt")
    with pytest.raises(Exception, match="ExpiredToken"):
        until(lambda: False, lambda: store.get("greeting.txt"))
    assert s3.refused
