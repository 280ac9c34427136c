"""The benchmark runs. No test here checks how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench.py")


@pytest.mark.timeout(300)  # it starts about thirty processes
def test_the_quick_benchmark_runs_and_fills_table_and_json(tmp_path: Path) -> None:
    """A quick run succeeds, prints a line for each row, and writes the same rows as JSON."""
    figures = tmp_path / "benchmark.json"
    source = os.pathsep.join(path for path in sys.path if path)
    run = subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--json", str(figures)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(figures.read_text())
    rows = [row["what"] for row in result["rows"]]
    assert len(rows) == len(set(rows)) > 0
    printed = [line.split(" | ")[0].removeprefix("| ") for line in run.stdout.splitlines()]
    assert printed[2:] == rows
    left_out = [row["what"] for row in result["rows"] if row["verdict"] == "not measured"]
    assert len(left_out) == 2  # those of the two published packages
