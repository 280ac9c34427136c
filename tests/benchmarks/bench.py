"""The benchmark: ``python tests/benchmarks/bench.py [--quick] [--json FILE] [--svg FILE]``.

Measures an assumed role's session side by side with the floor (one more client on a warm plain session), the
recipe written by hand, and the published packages, each of those in a virtual environment made for the run.
STS and S3 are a stub on loopback. Prints the table of targets. With --quick there is no network, no published
package, and too little of everything to mean much: it shows that the benchmark runs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict, dataclass
from typing import Any

import pyperf
from chart import draw

import aws_assume_role_lib

HERE = pathlib.Path(__file__).parent
LABELS = {
    "floor": "floor",
    "ours": "aws-assume-role-lib",
    "recipe": "recipe by hand",
    "published": "published 2.10.0",
    "refresh_session": "boto3-refresh-session",
}
PUBLISHED = {"published": "aws-assume-role-lib==2.10.0", "refresh_session": "boto3-refresh-session"}
CHECKPOINTS = (2, 5, 10, 20, 30, 40, 50)  # numbers of roles at which memory is looked at


@dataclass
class Row:
    """A line of the table. The value and its limit are compared as numbers; the rest is for people."""

    what: str
    value: float | None
    limit: float
    figure: str
    at_least: bool = False
    unit: str = ""

    @property
    def target(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.value >= self.limit if self.at_least else self.value <= self.limit:
            return "met"
        if not self.limit:
            return f"missed by {self.value:g}"
        ratio = self.limit / self.value if self.at_least else self.value / self.limit
        return f"missed by {math.ceil((ratio - 1) * 100)} %"


class Failed(Exception):
    """A contestant could not be installed or run."""


class Process:
    """A process that answers each line with one line of JSON."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def read(self) -> Any:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended without an answer"}
        if isinstance(answer, dict) and "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ask(self, *words: object) -> Any:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
        return self.read()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


class Benchmark:
    """One run."""

    def __init__(self, quick: bool, folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self.quick = quick
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.env = kept | {
            "AWS_ACCESS_KEY_ID": "AKIAROOT",
            "AWS_SECRET_ACCESS_KEY": "root-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
        }
        self.stub = stack.enter_context(Process([sys.executable, str(HERE / "stub_server.py")], self.env))
        self.env["AWS_ENDPOINT_URL"] = self.stub.read()["url"]
        self.versions = {name: importlib.metadata.version(name) for name in ("boto3", "botocore", "pyperf")}
        self.versions["aws-assume-role-lib"] = aws_assume_role_lib.__version__
        self.failures: dict[str, str] = dict.fromkeys(PUBLISHED, "left out by --quick") if quick else {}
        self.pythons = dict.fromkeys(("floor", "ours", "recipe"), sys.executable)

    def install(self) -> None:
        """Make a virtual environment for each published package."""
        for name, requirement in {} if self.quick else PUBLISHED.items():
            folder = self.folder / name
            python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
            same = [f"{package}=={self.versions[package]}" for package in ("boto3", "botocore")]
            script = f"import importlib.metadata as m; print(m.version({requirement.split('==')[0]!r}))"
            try:
                venv.create(folder, with_pip=True)
                subprocess.run([python, "-m", "pip", "install", "-q", *same, requirement], check=True)
                version = subprocess.check_output([python, "-c", script], text=True, env=self.env_of(name))
            except (subprocess.CalledProcessError, OSError) as error:
                self.failures[name] = f"could not be installed ({type(error).__name__})"
            else:
                self.pythons[name] = python
                self.versions[requirement.replace("==2.10.0", " (published)")] = version.strip()

    def env_of(self, name: str) -> dict[str, str]:
        # A published package's environment must not find the package of this repository.
        return {k: v for k, v in self.env.items() if name not in PUBLISHED or k != "PYTHONPATH"}

    def command(self, name: str, *mode: str) -> list[str]:
        return [self.pythons[name], str(HERE / "contestants.py"), name, *mode]

    def each(self, measure: Any) -> dict[str, Any]:
        """Let every contestant do something once; one that cannot is out from then on."""
        done = {}
        # In a new order each time: after a heavy neighbour the processor's caches are cold.
        for name in random.sample(list(self.pythons), len(self.pythons)):
            try:
                done[name] = measure(name)
            except Failed as error:
                if name not in PUBLISHED:
                    raise
                self.failures[name] = f"could not be run: {error}"
                del self.pythons[name]
        return done

    def further_roles(self, roles: int) -> dict[str, dict[str, Any]]:
        """What each further role takes, of seconds and bytes: all contestants take turns, role by role."""
        with contextlib.ExitStack() as stack:

            def start(name: str) -> Process:
                return stack.enter_context(Process(self.command(name), self.env_of(name)))

            def connections(name: str) -> int:
                before = self.stub.ask(0)
                workers[name].ask("credentials", min(roles, 20))
                return self.stub.ask(0) - before

            def ask(*words: object) -> dict[str, Any]:
                return self.each(lambda name: workers[name].ask(*words))

            workers = self.each(start)
            found: dict[str, dict[str, Any]] = {
                name: {"connections": count, "seconds": [], "bytes": []}
                for name, count in self.each(connections).items()
            }
            ask("further_role", 0)  # the first, which is no further one
            start_bytes = ask("memory", 0)
            for number in range(1, roles + 1):
                for name, seconds in ask("further_role", number).items():
                    found[name]["seconds"].append(seconds)
                for name, now in ask("memory", 0).items() if number in {*CHECKPOINTS, roles} else ():
                    found[name]["bytes"].append((number, now and (now - start_bytes[name]) / number))
        return {name: found[name] for name in LABELS if name in self.pythons}

    def cold_starts(self, rounds: int) -> dict[str, list[float]]:
        """Seconds from process start to the first answer of S3."""

        def once(name: str) -> float:
            start = time.monotonic()
            try:
                out = subprocess.check_output(self.command(name, "cold"), text=True, env=self.env_of(name))
            except subprocess.CalledProcessError as error:
                raise Failed(f"exit code {error.returncode}") from None
            return float(out) - start

        self.each(once)  # leaves the byte code and the files warm
        runs = [self.each(once) for _ in range(rounds)]
        return {name: [run[name] for run in runs] for name in self.pythons}

    def imports(self, rounds: int) -> tuple[float, list[str]]:
        command = self.command("ours", "import")
        runs = [json.loads(subprocess.check_output(command, text=True, env=self.env)) for _ in range(rounds + 1)]
        return statistics.median(seconds for seconds, _ in runs[1:]), runs[0][1]

    def threads(self, roles: int, rounds: int) -> tuple[float, float]:
        """Seconds for many roles on 16 threads, and for as many calls of one STS client."""
        self.stub.ask(0.02)
        with Process(self.command("ours"), self.env) as worker:
            runs = [worker.ask("threads", roles) for _ in range(rounds)]
        self.stub.ask(0)
        return statistics.median(a for a, _ in runs), statistics.median(b for _, b in runs)

    def micro(self, rounds: int) -> dict[str, float]:
        """pyperf's figures: a process for each figure in every round, so that all meet the same machine."""
        file = self.folder / "micro.json"
        size = ["--values=1", "--loops=2"] if self.quick else ["--values=3", "--loops=20"]
        names = ",".join(name for name in self.env if name.startswith(("AWS_", "PYTHON")))
        for _ in range(rounds):
            command = [sys.executable, str(HERE / "micro.py"), "-q", "--processes=1", "--warmups=1", *size]
            command += [f"--inherit-environ={names}", f"--append={file}"]
            subprocess.run(command, check=True, env=self.env, stdout=subprocess.DEVNULL)
        suite = pyperf.BenchmarkSuite.load(str(file))
        return {each.get_name(): each.median() for each in suite.get_benchmarks()}


def against_others(
    what: str, values: dict[str, Any], limits: tuple[float, float], show: Any, failures: dict[str, str]
) -> list[Row]:
    """Rows of what a further role takes: against the floor, and how much less it is than the others'."""
    mine, floor = values["ours"], values["floor"]
    figure = f"{show(mine)}, floor {show(floor)}" if mine else "this system does not say"
    rows = [Row(f"{what} of a further role, against the floor", mine and mine / floor, limits[0], figure)]
    for name in ("recipe", *PUBLISHED):
        value = values.get(name)
        figure = show(value) if value else failures.get(name, figure)
        factor = value and value / mine
        rows.append(Row(f"{what} of {LABELS[name]}, against ours", factor, limits[1], figure, at_least=True))
    return rows


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def mb(size: float) -> str:
    return f"{size / 1e6:.3g} MB"


def run(quick: bool) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benchmark = Benchmark(quick, folder, stack)
        benchmark.install()
        cold = {n: statistics.median(t) for n, t in benchmark.cold_starts(1 if quick else 20).items()}
        import_seconds, modules = benchmark.imports(1 if quick else 20)
        further = benchmark.further_roles(2 if quick else 50)
        threads, plain = benchmark.threads(4 if quick else 100, 1 if quick else 9)
        micro = benchmark.micro(1 if quick else 15)
    seconds = {name: statistics.median(map(sum, each["seconds"])) for name, each in further.items()}
    sizes = {name: each["bytes"][-1][1] for name, each in further.items()}
    rows = against_others("time", seconds, (1.6, 10), ms, benchmark.failures)
    rows += against_others("memory", sizes, (1.3, 8), mb, benchmark.failures)

    def ratio(what: str, a: str, b: str, limit: float) -> Row:
        return Row(what, micro[a] / micro[b], limit, f"{ms(micro[a])}, {b} {ms(micro[b])}")

    others = ", ".join(f"{LABELS[n]} {ms(t)}" for n, t in cold.items() if n != "ours")
    counts = ", ".join(
        f"{LABELS[n]} {each['connections']}" for n, each in further.items() if n not in ("ours", "floor")
    )
    rows += [
        ratio("assume_role(), against a bare boto3.Session()", "assume_role", "bare_session", 0.25),
        Row("import after boto3", import_seconds * 1e3, 2, "", unit=" ms"),
        Row("modules imported that boto3 has not", len(modules), 0, ", ".join(modules)),
        Row("cold start, against the recipe", cold["ours"] / cold["recipe"], 1, f"{ms(cold['ours'])}; {others}"),
        ratio("a refresh, against one AssumeRole", "refresh", "kept_sts_client", 1.3),
        Row("connections to STS", further["ours"]["connections"], 1, counts),
        Row("roles on 16 threads, against one STS client", threads / plain, 1.3, f"{ms(threads)}, plain {ms(plain)}"),
        ratio("signing, against botocore's credentials", "sign_ours", "sign_botocore", 1.0),
    ]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": benchmark.versions,
        "failures": benchmark.failures,
        "rows": [asdict(row) | {"target": row.target, "verdict": row.verdict} for row in rows],
        "further_roles": {LABELS[name]: each for name, each in further.items()},
        "cold_start": cold,
        "micro": micro,
    }


def cpu() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def table(result: dict[str, Any]) -> str:
    lines = ["| what | measured | target | verdict | figures |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        value = "" if row["value"] is None else f"{row['value']:.3g}{row['unit']}"
        lines.append(f"| {row['what']} | {value} | {row['target']} | {row['verdict']} | {row['figure']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no network, about half a minute, no meaningful figures")
    parser.add_argument("--json", type=pathlib.Path, help="where to write all figures")
    parser.add_argument("--svg", type=pathlib.Path, help="where to draw time and memory per further role")
    options = parser.parse_args()
    result = run(options.quick)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(draw(result))


if __name__ == "__main__":
    main()
