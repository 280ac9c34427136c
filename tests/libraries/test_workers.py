"""Sessions can be sent to the workers of libraries that spread work over processes."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from typing import Any

import boto3
import pytest
from conftest import HUB, SPOKE, key
from sts_stub import StsStub
from worker_tasks import identify

from aws_assume_role_lib import AssumedRoleSession, assume_role
from aws_assume_role_lib._travel import pickling

# Clusters are slow to start on a busy machine.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def spoke(sts: StsStub, root_keys: None, monkeypatch: pytest.MonkeyPatch) -> AssumedRoleSession:
    """The end of a chain from the environment's keys, with a session name that plain pickle cannot handle."""
    monkeypatch.setattr(pickling, "_kept", type(pickling._kept)())
    return assume_role(assume_role(boto3.Session(), HUB), SPOKE, RoleSessionName=lambda: "from-a-lambda")


def hubs_of(sts: StsStub) -> int:
    return [request.params["RoleArn"] for request in sts.assumed].count(HUB)


def test_cloudpickle_takes_what_pickle_does_not(sts: StsStub, spoke: AssumedRoleSession) -> None:
    """cloudpickle pickles lambdas, and a process without this module can use what it pickles."""
    cloudpickle = pytest.importorskip("cloudpickle", reason="pip install cloudpickle")
    data = cloudpickle.dumps(spoke)
    assert data == cloudpickle.dumps(spoke)
    assert key(pickle.loads(data))
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).client('sts').get_caller_identity()['Arn'])"
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True, timeout=50)
    assert done.stdout.decode().strip().endswith(":assumed-role/Spoke/from-a-lambda")
    with pytest.raises((pickle.PicklingError, AttributeError), match="<lambda>"):
        pickle.dumps(spoke)


def test_loky(sts: StsStub, spoke: AssumedRoleSession) -> None:
    """joblib's workers act as the role, and each assumes the hub once."""
    joblib = pytest.importorskip("joblib", reason="pip install joblib")
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(identify)(spoke) for _ in range(8))
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    assert {arn.rpartition("/")[2] for _, arn, _ in found} == {"from-a-lambda"}
    assert hubs_of(sts) == len({process for process, _, _ in found})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:Port .* is already in use")  # by another test's cluster
def test_dask(sts: StsStub, spoke: AssumedRoleSession) -> None:
    """The worker processes of a Dask cluster act as the role, each assumes the hub once, and Dask's hash of a session
    is the same for equal sessions."""
    distributed = pytest.importorskip("distributed", reason="pip install distributed")
    from dask.tokenize import tokenize

    settings: dict[str, Any] = {"processes": True, "n_workers": 2, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        found = client.gather([client.submit(identify, spoke, pure=False) for _ in range(12)])
    assert {arn.rpartition("/")[2] for _, arn, _ in found} == {"from-a-lambda"}
    assert hubs_of(sts) == len({process for process, _, _ in found})
    one, two = (assume_role(boto3.Session(), HUB, Tags={"team": "blue"}) for _ in range(2))
    assert tokenize(one) == tokenize(two) == tokenize(pickle.loads(pickle.dumps(one)))
    assert tokenize(one) != tokenize(assume_role(boto3.Session(), HUB))


def test_ray(sts: StsStub, spoke: AssumedRoleSession) -> None:
    """Ray's workers act as the role, and each assumes the hub once."""
    ray = pytest.importorskip("ray", reason="too large for every run: pip install ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        found = ray.get([ray.remote(identify).remote(spoke) for _ in range(8)])
    finally:
        ray.shutdown()
    assert {arn.rpartition("/")[2] for _, arn, _ in found} == {"from-a-lambda"}
    assert hubs_of(sts) == len({process for process, _, _ in found})


def test_pyspark(sts: StsStub, spoke: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark's workers act as the role, and each assumes the hub once."""
    sql = pytest.importorskip("pyspark.sql", reason="too large for every run, and needs Java: pip install pyspark")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    builder = functools.reduce(
        lambda builder, name: builder.config(name, "127.0.0.1"),
        ["spark.driver.host", "spark.driver.bindAddress"],
        sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false"),
    )
    spark = builder.getOrCreate()
    try:
        found = spark.sparkContext.parallelize(range(8), 4).map(lambda _: identify(spoke)).collect()
    finally:
        spark.stop()
    assert {arn.rpartition("/")[2] for _, arn, _ in found} == {"from-a-lambda"}
    assert hubs_of(sts) == len({process for process, _, _ in found})
