"""The benchmark: ``python tests/benchmarks/bench.py [--quick] [--delay SECONDS] [--json FILE]``.

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
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

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


@dataclass
class Row:
    """A line of the table. The value and its limit are compared as numbers; the rest is for people."""

    what: str
    value: float | None
    limit: float
    figure: str = ""
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.value <= self.limit:
            return "met"
        return f"missed by {math.ceil((self.value / self.limit - 1) * 100)}%" if self.limit else "missed"


class Failed(Exception):
    """A contestant could not be run."""


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
    """One run: the stub, and what it takes to start each contestant."""

    def __init__(self, quick: bool, delay: float, folder: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self._delay = delay
        ours = ("AWS_", "PYTHONDONTWRITEBYTECODE")
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "AWS_ACCESS_KEY_ID": "AKIAROOT",
            "AWS_SECRET_ACCESS_KEY": "root-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
        }
        self._stub = stack.enter_context(Process([sys.executable, str(HERE / "stub_server.py")], self._env))
        self._env |= self._stub.read()
        self.versions = {name: importlib.metadata.version(name) for name in ("boto3", "botocore")}
        self.versions["aws-assume-role-lib"] = aws_assume_role_lib.__version__
        self.failures = dict.fromkeys(PUBLISHED, "left out by --quick") if quick else {}
        self.pythons = dict.fromkeys(("plain", "ours", "recipe"), sys.executable)
        for name, requirement in {} if quick else PUBLISHED.items():
            self._install(name, requirement, folder / name)

    def _install(self, name: str, requirement: str, folder: pathlib.Path) -> None:
        python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        package = requirement.partition("==")[0]
        same = [f"{each}=={self.versions[each]}" for each in ("boto3", "botocore")]
        script = f"import importlib.metadata as m; print(m.version({package!r}))"
        try:
            venv.create(folder, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "--retries=1", *same, requirement], check=True)
            version = subprocess.check_output([python, "-c", script], text=True, env=self._env_of(name))
        except (subprocess.CalledProcessError, OSError) as error:
            self.failures[name] = f"could not be installed ({type(error).__name__})"
        else:
            self.pythons[name] = python
            self.versions[f"{package} (published)"] = version.strip()

    def _env_of(self, name: str) -> dict[str, str]:
        # A published package's environment must not find the package of this repository.
        return {k: v for k, v in self._env.items() if name not in PUBLISHED or k != "PYTHONPATH"}

    def _worker(self, name: str) -> Process:
        return Process([self.pythons[name], str(HERE / "contestants.py"), name], self._env_of(name))

    def _output(self, name: str, mode: str) -> float:
        command = [self.pythons[name], str(HERE / "contestants.py"), name, mode]
        try:
            return float(subprocess.check_output(command, text=True, env=self._env_of(name)))
        except subprocess.CalledProcessError as error:
            raise Failed(f"exit code {error.returncode}") from None

    def _each(self, measure: Any) -> dict[str, Any]:
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

    def _handshakes(self) -> int:
        count: int = self._stub.ask(self._delay)
        return count

    def further_roles(self, roles: int) -> dict[str, dict[str, Any]]:
        """CPU and wall seconds, handshakes and bytes of a further role with an S3 client and its first call.

        All contestants take turns, role by role.
        """
        with contextlib.ExitStack() as stack:
            workers = self._each(lambda name: stack.enter_context(self._worker(name)))
            self._each(lambda name: [workers[name].ask("use", number) for number in range(3)])  # the first cost more
            start = self._each(lambda name: workers[name].ask("memory", 0))
            found: dict[str, dict[str, Any]] = {name: {"seconds": [], "handshakes": 0} for name in workers}

            def use(name: str) -> None:
                before = self._handshakes()
                found[name]["seconds"].append(workers[name].ask("use", 3 + len(found[name]["seconds"])))
                found[name]["handshakes"] += self._handshakes() - before

            for _ in range(roles):
                self._each(use)
            for name, end in self._each(lambda name: workers[name].ask("memory", 0)).items():
                found[name]["bytes"] = end and (end - start[name]) / roles
        return {name: found[name] for name in LABELS if name in self.pythons}

    def creation(self, rounds: int) -> Iterator[Row]:
        with self._worker("ours") as ours, self._worker("plain") as plain:
            # The first cost more.
            runs = [(ours.ask("create", n), plain.ask("create", n)) for n in range(rounds + 1)][1:]
        for index, service in enumerate(SERVICES):
            mine, theirs = (median(run[side][index] for run in runs) for side in (0, 1))
            what = f"creating a further role's {service} client, against a plain session's further client"
            yield Row(what, mine / theirs, 1.1, f"{ms(mine)}, plain {ms(theirs)}")

    def memory_of_ec2(self, roles: int) -> Row:
        with self._worker("ours") as worker:
            sizes = [worker.ask("keep", number) for number in range(roles + 1)]
            start, end = sizes[0], sizes[-1]
        return Row("memory of a further role and EC2 client", end and (end - start) / roles / 1e6, 0.5, unit=" MB")

    def threads(self, roles: int, rounds: int) -> Iterator[Row]:
        def once(name: str) -> tuple[float, int]:
            with self._worker(name) as worker:
                worker.ask("use", 0)
                before = self._handshakes()
                return worker.ask("threads", roles), self._handshakes() - before

        runs = [{name: once(name) for name in ("ours", "recipe")} for _ in range(rounds)]
        ours, recipe = (median(run[name][0] for run in runs) for name in ("ours", "recipe"))
        handshakes = median(run["ours"][1] for run in runs)
        yield Row(f"TLS handshakes of {roles} roles on 16 threads", handshakes, 32)
        figure = f"{ms(ours)}, {LABELS['recipe']} {ms(recipe)}"
        yield Row(f"CPU of {roles} roles on 16 threads, against recipe by hand", ours / recipe, 0.08, figure)

    def cold_start(self, rounds: int) -> Row:
        """Seconds from process start to the first answer of S3."""

        def once(name: str) -> float:
            start = time.monotonic()
            return self._output(name, "cold") - start

        self._each(once)  # warms the byte code and the files
        runs = [self._each(once) for _ in range(rounds)]
        cold = {name: median(run[name] for run in runs) for name in self.pythons}
        figure = ", ".join(f"{LABELS[name]} {ms(seconds)}" for name, seconds in cold.items())
        return Row("cold start, against recipe by hand", cold["ours"] / cold["recipe"], 0.9, figure)

    def imports(self, rounds: int) -> Row:
        seconds = [self._output("ours", "import") for _ in range(rounds + 1)][1:]
        return Row("import after boto3", median(seconds) * 1e3, 4, unit=" ms")

    def scan(self, accounts: int) -> list[dict[str, Any]]:
        """What each client costs in CPU seconds and bytes as their number grows, and all open files."""
        points = []
        step = max(accounts // 20, 1)
        with self._worker("ours") as worker:
            worker.ask("scan", 0)
            start = worker.ask("memory", 0)
            for last in range(step, accounts + 1, step):
                seconds = [worker.ask("scan", account) for account in range(last - step + 1, last + 1)]
                size, files = worker.ask("memory", 0), worker.ask("files", 0)
                point = {"clients": last * len(REGIONS), "seconds": median(seconds) / len(REGIONS)}
                points.append({**point, "bytes": size and size - start, "files": files})
        return points


def rows_of_further_roles(further: dict[str, dict[str, Any]], failures: dict[str, str]) -> Iterator[Row]:
    cpu = {name: median(seconds for seconds, _ in each["seconds"]) for name, each in further.items()}
    for name, limit in {"recipe": 0.06, "plain": 0.4, **dict.fromkeys(PUBLISHED, 0.06)}.items():
        what = f"CPU of a further role, S3 client and first call, against {LABELS[name]}"
        if name in cpu:
            yield Row(what, cpu["ours"] / cpu[name], limit, f"{ms(cpu['ours'])}, {LABELS[name]} {ms(cpu[name])}")
        else:
            yield Row(what, None, limit, failures[name])
    others = ", ".join(f"{LABELS[name]} {further[name]['handshakes']}" for name in further if name != "ours")
    yield Row("TLS handshakes of further roles, one thread", further["ours"]["handshakes"], 0, others)


def rows_of_scan(scan: list[dict[str, Any]]) -> Iterator[Row]:
    tenth = max(len(scan) // 10, 1)
    first, last = (median(point["seconds"] for point in part) for part in (scan[:tenth], scan[-tenth:]))
    what = f"CPU of a client, as a scan grows to {scan[-1]['clients']:,} clients"
    yield Row(what, last / first, 1.1, f"{ms(first)} at first, {ms(last)} at last")
    memory = [point["bytes"] and point["bytes"] / point["clients"] for point in (scan[len(scan) // 2], scan[-1])]
    yield Row("memory of a client, as the scan grows", memory[0] and memory[1] / memory[0], 1.1)
    yield Row("open files at the end of the scan", scan[-1]["files"], 64)


def ms(seconds: float) -> str:
    # ".3g" alone would write 1,570 as 1.57e+03.
    return f"{float(f'{seconds * 1e3:.3g}'):,g} ms"


def run(quick: bool, delay: float) -> dict[str, Any]:
    def number(full: int, little: int) -> int:
        return little if quick else full

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benchmark = Benchmark(quick, delay, folder, stack)
        cold_start = benchmark.cold_start(number(20, 1))
        further = benchmark.further_roles(number(40, 2))
        scan = benchmark.scan(number(500, 2))
        rows = [
            *rows_of_further_roles(further, benchmark.failures),
            *benchmark.threads(number(100, 4), number(3, 1)),
            *benchmark.creation(number(40, 1)),
            benchmark.memory_of_ec2(number(50, 2)),
            cold_start,
            benchmark.imports(number(20, 1)),
            *rows_of_scan(scan),
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
        "rows": [{**asdict(row), "target": f"at most {row.limit:g}{row.unit}", "verdict": row.verdict} for row in rows],
        "further_roles": {
            LABELS[name]: {
                "cpu_ms": median(cpu for cpu, _ in each["seconds"]) * 1e3,
                "wall_ms": median(wall for _, wall in each["seconds"]) * 1e3,
                "bytes": each["bytes"],
                "handshakes": each["handshakes"] / len(each["seconds"]),
            }
            for name, each in further.items()
        },
        "scan": scan,
    }


def cpu() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no network, about half a minute, no meaningful figures")
    parser.add_argument("--json", type=pathlib.Path, help="where to write all figures")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each TLS handshake takes longer")
    options = parser.parse_args()
    result = run(options.quick, options.delay)
    print("| what | measured | target | verdict | figures |", "|---|---|---|---|---|", sep="\n")
    for row in result["rows"]:
        value = "" if row["value"] is None else f"{row['value']:.3g}{row['unit']}"
        print(f"| {row['what']} | {value} | {row['target']} | {row['verdict']} | {row['figure']} |")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
