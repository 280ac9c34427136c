"""The benchmark: ``python tests/benchmarks/bench.py [--quick] [--delay SECONDS] [--json FILE] [--charts FOLDER]``.

Measures roles side by side: this package's, those of the recipe written by hand, those of the published packages (each
in a virtual environment made for the run, left out where pip cannot get them), and further clients of a plain session.
STS and S3 are a stub on this machine, behind TLS with a CA bundle of production's size. With --quick there is no
network, no published package, and too little of everything to mean much: it shows that the benchmark runs.
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

from chart import draw_bars, draw_growth
from contestants import REGIONS, SERVICES

import aws_assume_role_lib

HERE = pathlib.Path(__file__).parent
LABELS = {
    "ours": "aws-assume-role-lib",
    "recipe": "recipe by hand",
    "published": "published 2.10.0",
    "refresh_session": "boto3-refresh-session",
    "plain": "a plain session's client",
}
PUBLISHED = {"published": "aws-assume-role-lib==2.10.0", "refresh_session": "boto3-refresh-session"}
CREATION = dict.fromkeys(("s3", "dynamodb", "iam", "ec2"), 1.1)  # targets, by service


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

    def __init__(self, quick: bool, delay: float, folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self.quick = quick
        self.delay = delay
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
        server = self.stub.read()
        self.env |= {"AWS_ENDPOINT_URL": server["url"], "AWS_CA_BUNDLE": server["bundle"]}
        self.versions = {name: importlib.metadata.version(name) for name in ("boto3", "botocore")}
        self.versions["aws-assume-role-lib"] = aws_assume_role_lib.__version__
        self.failures: dict[str, str] = dict.fromkeys(PUBLISHED, "left out by --quick") if quick else {}
        self.pythons = dict.fromkeys(("plain", "ours", "recipe"), sys.executable)

    def install(self) -> None:
        """Make a virtual environment for each published package."""
        for name, requirement in {} if self.quick else PUBLISHED.items():
            folder = self.folder / name
            python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
            same = [f"{package}=={self.versions[package]}" for package in ("boto3", "botocore")]
            script = f"import importlib.metadata as m; print(m.version({requirement.split('==')[0]!r}))"
            try:
                venv.create(folder, with_pip=True)
                subprocess.run([python, "-m", "pip", "install", "-q", "--retries=1", *same, requirement], check=True)
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
        """Have every contestant do something once; one that cannot is left out from then on."""
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

    def worker(self, name: str) -> Process:
        return Process(self.command(name), self.env_of(name))

    def handshakes(self) -> int:
        count: int = self.stub.ask(self.delay)
        return count

    def further_roles(self, roles: int) -> dict[str, dict[str, Any]]:
        """CPU and wall seconds, handshakes and bytes of a further role with an S3 client and its first call.

        All contestants take turns, role by role.
        """
        with contextlib.ExitStack() as stack:
            workers = self.each(lambda name: stack.enter_context(self.worker(name)))
            self.each(lambda name: [workers[name].ask("use", number) for number in range(3)])  # the first cost more
            start = self.each(lambda name: workers[name].ask("memory", 0))
            found: dict[str, dict[str, Any]] = {name: {"seconds": [], "handshakes": 0} for name in workers}

            def use(name: str, number: int) -> None:
                before = self.handshakes()
                found[name]["seconds"].append(workers[name].ask("use", number))
                found[name]["handshakes"] += self.handshakes() - before

            for number in range(3, 3 + roles):
                self.each(lambda name, number=number: use(name, number))  # type: ignore[misc]  # mypy infers no lambda with a default
            for name, end in self.each(lambda name: workers[name].ask("memory", 0)).items():
                found[name]["bytes"] = end and (end - start[name]) / roles
        return {name: found[name] for name in LABELS if name in self.pythons}

    def creation(self, rounds: int) -> dict[str, dict[str, float]]:
        """CPU seconds of a further role and client, for each service, beside a further client of a plain session."""
        with self.worker("ours") as ours, self.worker("plain") as plain:
            runs = [(ours.ask("create", n), plain.ask("create", n)) for n in range(rounds + 1)][1:]
        return {
            service: {
                name: statistics.median(run[side][index] for run in runs) for side, name in enumerate(("ours", "plain"))
            }
            for index, service in enumerate(SERVICES)
        }

    def memory_of_ec2(self, roles: int) -> float | None:
        with self.worker("ours") as worker:
            worker.ask("keep", 0)
            start = worker.ask("memory", 0)
            for number in range(1, roles + 1):
                worker.ask("keep", number)
            end = worker.ask("memory", 0)
        return end and (end - start) / roles

    def sockets(self, roles: int) -> int | None:
        with self.worker("ours") as worker:
            for number in range(roles):
                worker.ask("use", number)
            count: int | None = worker.ask("sockets", 0)
        return count

    def scan(self, accounts: int) -> list[dict[str, Any]]:
        """What each client costs in CPU seconds and bytes as their number grows, and all open files."""
        points: list[dict[str, Any]] = []
        clients = len(REGIONS)
        step = max(accounts // 20, 1)
        with self.worker("ours") as worker:
            worker.ask("scan", 0)
            start = worker.ask("memory", 0)
            for last in range(step, accounts + 1, step):
                seconds = [worker.ask("scan", account) for account in range(last - step + 1, last + 1)]
                points.append(
                    {
                        "clients": last * clients,
                        "seconds": statistics.median(seconds) / clients,
                        "bytes": start and worker.ask("memory", 0) - start,
                        "files": worker.ask("descriptors", 0),
                    }
                )
        return points

    def threads(self, roles: int, rounds: int) -> dict[str, dict[str, float]]:
        """CPU and wall seconds, and handshakes, of many roles with a client and a call each, on 16 threads."""

        def once(name: str) -> tuple[float, float, int]:
            with self.worker(name) as worker:
                worker.ask("use", 0)
                before = self.handshakes()
                cpu, wall = worker.ask("threads", roles)
                return cpu, wall, self.handshakes() - before

        runs = [self.each(lambda name: None if name == "plain" else once(name)) for _ in range(rounds)]
        names = [name for name in LABELS if runs[-1].get(name)]
        return {
            name: {
                what: statistics.median(run[name][index] for run in runs)
                for index, what in enumerate(("cpu", "wall", "handshakes"))
            }
            for name in names
        }

    def cold_starts(self, rounds: int) -> dict[str, list[float]]:
        """Seconds from process start to the first answer of S3."""

        def once(name: str) -> float:
            start = time.monotonic()
            try:
                out = subprocess.check_output(self.command(name, "cold"), text=True, env=self.env_of(name))
            except subprocess.CalledProcessError as error:
                raise Failed(f"exit code {error.returncode}") from None
            return float(out) - start

        self.each(once)  # warms the byte code and the files
        runs = [self.each(once) for _ in range(rounds)]
        return {name: [run[name] for run in runs] for name in self.pythons}

    def imports(self, rounds: int) -> tuple[float, list[str]]:
        command = self.command("ours", "import")
        runs = [json.loads(subprocess.check_output(command, text=True, env=self.env)) for _ in range(rounds + 1)]
        return statistics.median(seconds for seconds, _ in runs[1:]), runs[0][1]

    def micro(self, loops: int) -> dict[str, float]:
        with self.worker("ours") as worker:
            found: dict[str, float] = worker.ask("micro", loops)
        return found


def share_of_others(
    what: str, values: dict[str, Any], limits: dict[str, float], show: Any, benchmark: Benchmark
) -> Any:
    """Rows that give ours as a share of each of the others."""
    for name, limit in limits.items():
        value = values.get(name)
        figure = f"{show(values['ours'])}, {LABELS[name]} {show(value)}" if value else benchmark.failures.get(name, "")
        yield Row(f"{what}, against {LABELS[name]}", value and values["ours"] / value, limit, figure)


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def kb(size: float) -> str:
    return f"{size / 1e3:.3g} kB"


def run(quick: bool, delay: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benchmark = Benchmark(quick, delay, folder, stack)
        benchmark.install()
        benchmark.handshakes()
        cold = {n: statistics.median(t) for n, t in benchmark.cold_starts(1 if quick else 20).items()}
        import_seconds, modules = benchmark.imports(1 if quick else 20)
        further = benchmark.further_roles(2 if quick else 40)
        creation = benchmark.creation(1 if quick else 40)
        ec2_bytes = benchmark.memory_of_ec2(2 if quick else 50)
        sockets = benchmark.sockets(4 if quick else 200)
        threads = benchmark.threads(4 if quick else 100, 1 if quick else 3)
        scan = benchmark.scan(2 if quick else 500)
        micro = benchmark.micro(2 if quick else 200)
    cpu_seconds = {name: statistics.median(cpu for cpu, _ in each["seconds"]) for name, each in further.items()}
    on_threads = {name: each["cpu"] for name, each in threads.items()}

    def ratio(what: str, a: str, b: str, limit: float) -> Row:
        return Row(what, micro[a] / micro[b], limit, f"{ms(micro[a])}, {b} {ms(micro[b])}")

    def growth(what: str, first: float | None, last: float | None, show: Any) -> Row:
        figure = f"{show(first)} at first, {show(last)} at last" if first and last else "this system does not say"
        return Row(what, first and last and last / first, 1.1, figure)

    tenth = max(len(scan) // 10, 1)
    others = ", ".join(f"{LABELS[n]} {ms(t)}" for n, t in cold.items() if n != "ours")
    counts = ", ".join(f"{LABELS[n]} {each['handshakes']}" for n, each in further.items() if n not in ("ours", "plain"))
    limits = {"recipe": 0.06, "plain": 0.4, **dict.fromkeys(PUBLISHED, 0.06)}
    rows = [
        *share_of_others("CPU of a further role, S3 client and first call", cpu_seconds, limits, ms, benchmark),
        Row("TLS handshakes of further roles, one thread", further["ours"]["handshakes"], 0, counts),
        Row("TLS handshakes of 100 roles on 16 threads", threads["ours"]["handshakes"], 32, ""),
        *share_of_others("CPU of 100 roles on 16 threads", on_threads, {"recipe": 0.08}, ms, benchmark),
        *(
            Row(
                f"creating a further role and {service} client, against a plain session's client",
                creation[service]["ours"] / creation[service]["plain"],
                limit,
                f"{ms(creation[service]['ours'])}, plain {ms(creation[service]['plain'])}",
            )
            for service, limit in CREATION.items()
        ),
        Row("memory of a further role and EC2 client", ec2_bytes and ec2_bytes / 1e6, 0.5, "", unit=" MB"),
        Row("open sockets after 200 roles, one after the other", sockets, 4, ""),
        Row("cold start, against the recipe", cold["ours"] / cold["recipe"], 0.9, f"{ms(cold['ours'])}; {others}"),
        Row("import after boto3", import_seconds * 1e3, 4, "", unit=" ms"),
        Row("modules imported that boto3 has not", len(modules), 0, ", ".join(modules)),
        growth(
            f"CPU of a client, as a scan grows to {scan[-1]['clients']:,} clients",
            statistics.median(point["seconds"] for point in scan[:tenth]),
            statistics.median(point["seconds"] for point in scan[-tenth:]),
            ms,
        ),
        growth(
            "memory of a client, as the scan grows",
            scan[0]["bytes"] and scan[len(scan) // 2]["bytes"] / scan[len(scan) // 2]["clients"],
            scan[-1]["bytes"] and scan[-1]["bytes"] / scan[-1]["clients"],
            kb,
        ),
        Row("open files at the end of the scan", scan[-1]["files"], 64, ""),
        ratio("assume_role(), against a bare boto3.Session()", "assume_role", "bare_session", 0.25),
        ratio("a refresh, against one AssumeRole", "refresh", "kept_sts_client", 1.3),
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
        "further_roles": {
            LABELS[name]: {
                "cpu_ms": cpu_seconds[name] * 1e3,
                "wall_ms": statistics.median(wall for _, wall in each["seconds"]) * 1e3,
                "bytes": each["bytes"],
                "handshakes": each["handshakes"] / len(each["seconds"]),
            }
            for name, each in further.items()
        },
        "creation": creation,
        "threads": {LABELS[name]: each for name, each in threads.items()},
        "scan": scan,
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
    parser.add_argument("--charts", type=pathlib.Path, help="the folder to draw the charts in")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each TLS handshake takes longer")
    options = parser.parse_args()
    result = run(options.quick, options.delay)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.charts:
        (options.charts / "benchmark.svg").write_text(draw_bars(result))
        (options.charts / "benchmark-growth.svg").write_text(draw_growth(result))


if __name__ == "__main__":
    main()
