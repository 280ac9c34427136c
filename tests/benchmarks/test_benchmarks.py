"""The benchmark runs. No test here checks how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pages import run


@pytest.mark.timeout(300)  # it starts about thirty processes
def test_the_quick_benchmark_runs_and_fills_table_and_json(tmp_path: Path) -> None:
    """A quick run succeeds, prints a line for each row, and writes the same rows as JSON."""
    figures = tmp_path / "benchmark.json"
    done = run(sys.executable, Path(__file__).with_name("bench.py"), "--quick", "--json", figures, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(figures.read_text())
    rows = [row["what"] for row in result["rows"]]
    assert len(rows) == len(set(rows)) > 0
    assert [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()][2:] == rows
    left_out = [row["what"] for row in result["rows"] if row["verdict"] == "not measured"]
    assert len(left_out) == 2  # those of the two published packages
