"""Sessions can be sent to the workers of libraries that spread work over processes."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import boto3
import pytest
from conftest import HUB, SPOKE
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


def on_joblib(spoke: AssumedRoleSession) -> list[Any]:
    joblib = pytest.importorskip("joblib", reason="pip install joblib")
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(identify)(spoke) for _ in range(8))
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    return list(found)


def on_dask(spoke: AssumedRoleSession) -> list[Any]:
    distributed = pytest.importorskip("distributed", reason="pip install distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        return list(client.gather([client.submit(identify, spoke, pure=False) for _ in range(12)]))


def on_ray(spoke: AssumedRoleSession) -> list[Any]:
    ray = pytest.importorskip("ray", reason="too large for every run: pip install ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        return list(ray.get([ray.remote(identify).remote(spoke) for _ in range(8)]))
    finally:
        ray.shutdown()


def on_spark(spoke: AssumedRoleSession) -> list[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="too large for every run, and needs Java: pip install pyspark")
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    for name in ("spark.driver.host", "spark.driver.bindAddress"):
        builder = builder.config(name, "127.0.0.1")
    with builder.getOrCreate() as spark:
        return list(spark.sparkContext.parallelize(range(8), 4).map(lambda _: identify(spoke)).collect())


@pytest.mark.parametrize("spread", [on_joblib, on_dask, on_ray, on_spark])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:Port .* is already in use")  # by another test's cluster
def test_workers_act_as_the_role(
    sts: StsStub, spoke: AssumedRoleSession, monkeypatch: pytest.MonkeyPatch, spread: Any
) -> None:
    """The worker processes of a library act as the role, and each assumes the hub once."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    found = spread(spoke)
    assert {arn.rpartition("/")[2] for _, arn, _ in found} == {"from-a-lambda"}
    hubs = [request for request in sts.assumed if request.params["RoleArn"] == HUB]
    assert len(hubs) == len({process for process, _, _ in found})


def test_dasks_hash_of_a_session(root_keys: None) -> None:
    """Dask's hash of a session is the same for equal sessions, and different for others."""
    tokenize = pytest.importorskip("dask.tokenize", reason="pip install distributed").tokenize
    one, two = (assume_role(boto3.Session(), HUB, Tags={"team": "blue"}) for _ in range(2))
    assert tokenize(one) == tokenize(two) == tokenize(pickle.loads(pickle.dumps(one)))
    assert tokenize(one) != tokenize(assume_role(boto3.Session(), HUB))
