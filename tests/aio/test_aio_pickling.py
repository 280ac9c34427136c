"""A session for asyncio, and a file system of s3fs that holds one, pickle as the role's recipe."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import boto3
import cloudpickle
import pytest
from conftest import HUB, SECRET, SPOKE
from sts_stub import StsStub

from aws_assume_role_lib import AssumedRoleSession, assume_role
from aws_assume_role_lib.aio import get_session


@pytest.fixture
def spoke(root_keys: None) -> AssumedRoleSession:
    return assume_role(boto3.Session(), HUB).assume_role(SPOKE)


async def account_of(session: Any) -> str:
    async with session.create_client("sts") as sts:
        account: str = (await sts.get_caller_identity())["Account"]
        return account


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_a_session_pickles_as_the_recipe(sts: StsStub, spoke: AssumedRoleSession, pickler: Any) -> None:
    """Used or not, a session pickles without a secret, loads without a request, and acts as the role on first use."""
    original = get_session(spoke)
    assert asyncio.run(account_of(original)) == "222222222222"
    data = pickler.dumps(original)
    assert not SECRET.search(data.decode("latin-1"))
    requests = len(sts.requests)
    loaded = pickle.loads(data)
    assert pickler.dumps(loaded) == data
    assert len(sts.requests) == requests
    assert asyncio.run(account_of(loaded)) == "222222222222"
    assert isinstance(loaded, type(original))
    assert pickler.dumps(loaded) == data
    assert {request.access_key for request in sts.assumed[:1] + sts.assumed[2:3]} == {"AKIAROOT"}


def test_a_process_has_one_session_for_a_recipe(
    sts: StsStub, spoke: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickles of one recipe load as one session, and as another one after the credentials in the environment change;
    a scheduler without keys can load a session and pickle it again for a worker.
    """
    data = pickle.dumps(get_session(spoke))
    assert pickle.loads(data) is pickle.loads(data)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert pickle.dumps(pickle.loads(data)) == data
    assert sts.requests == []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    other = pickle.loads(data)
    asyncio.run(account_of(other))
    assert sts.assumed[0].access_key == "AKIAOTHER"


def read(number: int, files: Any) -> tuple[bytes, int]:
    return files.cat("of-dask/key"), id(files)


def test_s3fs_and_dask(moto: str, spoke: AssumedRoleSession) -> None:
    """s3fs accepts the session, and refreshes in its own event loop, in a thread of its own; Dask's tasks read through
    a pickled file system, as the role, and a worker process has one for all of its tasks.
    """
    s3fs: Any = pytest.importorskip("s3fs")
    dask: Any = pytest.importorskip("dask")
    files = s3fs.S3FileSystem(session=get_session(spoke))
    files.mkdir("of-dask")
    files.pipe("of-dask/key", b"content")
    credentials: Any = spoke.get_credentials()
    before = credentials.access_key
    credentials.refresh_at = 0.0  # the next request needs a refresh
    assert files.cat("of-dask/key") == b"content"
    assert credentials.keys.access_key != before
    assert not SECRET.search(pickle.dumps(files).decode("latin-1"))
    tasks = [dask.delayed(read)(number, files) for number in range(8)]
    results = dask.compute(*tasks, scheduler="processes", num_workers=1, chunksize=1)
    files.rm("of-dask", recursive=True)
    assert {content for content, _ in results} == {b"content"}
    assert len({number for _, number in results}) == 1
