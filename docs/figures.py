"""Draw the figures of the documentation: ``python docs/figures.py [folder]``, into docs/figures by default.

What they show to scale is computed from the package's own constants, so that a figure cannot outlive a change, or read
from docs/benchmark.json. They are narrow, so that their text can be read on a phone, and on paper of their own, in
fixed colours, so that they read the same on a light and a dark page.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime, timezone
from pathlib import Path
from xml.sax.saxutils import escape

from aws_assume_role_lib._credentials import BLOCKING_WINDOW
from aws_assume_role_lib._family import RETRY_INTERVAL
from aws_assume_role_lib._keys import Keys

BENCHMARK = json.loads(Path(__file__).with_name("benchmark.json").read_text(encoding="utf-8"))
WIDTH = 420
LEFT, RIGHT = 20, 400

STYLE = """
  .paper { fill: #faf6ec; stroke: #d8cfbb } .ink { fill: #2b2a27 } .faint { fill: #5c574d }
  .line { stroke: #5c574d; fill: none } .good { fill: #0b6e4f } .early { fill: #e0a526 } .late { fill: #a3361f }
  .unreachable { fill: #7a4fbf; fill-opacity: .22 } .box { fill: #fffdf7; stroke: #8b8371 } .mark { fill: #1b4fa0 }
  .curve { stroke: #0b6e4f; stroke-width: 3; fill: none }
  .failed { stroke: #a3361f; stroke-width: 2 }
  text { font: 16px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
  .small { font-size: 14.5px } .strong { font-weight: 600 }
"""


def refresh_window(lifetime: float) -> float:
    """How many seconds before they expire credentials may be refreshed."""
    return Keys("", "", "", None, datetime.now(timezone.utc), lifetime, "").advisory_window


def usually_due(lifetime: float) -> float:
    """After how many seconds a refresh is due on average: at a random moment in the window's first third."""
    return lifetime - refresh_window(lifetime) * 5 / 6


class Figure:
    """An SVG in the making."""

    def __init__(self, title: str, height: int) -> None:
        self.height = height
        self.parts = [f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>"]
        self.rect("paper", 0.5, 0.5, WIDTH - 1, height - 1, radius=8)

    def rect(self, kind: str, x: float, y: float, width: float, height: float, radius: int = 0) -> None:
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}"/>'
        )

    def text(self, x: float, y: float, text: str, kind: str = "ink", anchor: str = "start") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def arrow(self, x: float, y1: float, y2: float) -> None:
        self.line(x, y1, x, y2 - 8)
        self.parts.append(f'<path class="faint" d="M{x:.1f} {y2:.1f} l-5 -10 h10 z"/>')

    def dot(self, x: float, y: float) -> None:
        self.parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')

    def lifetime(self, x: float, y: float, seconds: float, scale: float) -> None:
        """The life of one set of credentials: valid, in the refresh window, in its last seconds."""
        due = seconds - refresh_window(seconds)
        last = seconds - BLOCKING_WINDOW
        self.rect("good", x, y, due * scale, 26)
        self.rect("early", x + due * scale, y, (last - due) * scale, 26)
        self.rect("late", x + last * scale, y, BLOCKING_WINDOW * scale, 26)

    def axis(self, y: float, last_minute: int, step: int, scale: float) -> None:
        self.line(LEFT, y, LEFT + last_minute * 60 * scale, y)
        for minute in range(0, last_minute + 1, step):
            x = LEFT + minute * 60 * scale
            self.line(x, y, x, y + 5)
            text, anchor = (f"{minute} min", "start") if minute == 0 else (f"{minute}", "middle")
            self.text(x - 4 if minute == 0 else x, y + 22, text, "faint small", anchor)

    def legend(self, y: float) -> None:
        for kind, text in LIFE:
            self.rect(kind, LEFT, y - 12, 14, 14, radius=2)
            self.text(LEFT + 22, y, text, "ink small")
            y += 23

    def growth(self, top: float, xs: list[int], ys: list[float]) -> None:
        left, bottom, most_x, most_y = LEFT + 44, top + 130, xs[-1], round_up(max(ys))
        for part in range(5):
            x, y = left + (RIGHT - left) * part / 4, bottom - 130 * part / 4
            self.line(left, y, RIGHT, y, "paper")
            self.text(left - 8, y + 5, f"{most_y * part / 4:g}", "faint small", "end")
            self.text(x, bottom + 20, f"{most_x * part // 4:,}", "faint small", "end" if part == 4 else "middle")
        points = [(left + (RIGHT - left) * x / most_x, bottom - 130 * y / most_y) for x, y in zip(xs, ys, strict=True)]
        self.parts.append(f'<path class="curve" d="M{" ".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>')

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">\n{body}\n</svg>\n'
        )


LIFE = (
    ("good", "in use, STS is not called"),
    ("early", "refresh window: one request refreshes"),
    ("late", "last minute: everyone waits for it"),
)


def refresh() -> Figure:
    """The refresh window, to scale."""
    figure = Figure("When credentials are refreshed, to scale", 258)
    scale = (RIGHT - LEFT) / 3600
    for y, name, seconds in ((36, "granted for 1 hour", 3600), (100, "granted for 15 minutes", 900)):
        figure.text(LEFT, y - 8, name)
        figure.lifetime(LEFT, y, seconds, scale)
    figure.axis(142, 60, 15, scale)
    figure.legend(196)
    return figure


def outage() -> Figure:
    """An outage of STS from minute 41 to minute 58 of an hour."""
    down, back = 41, 58
    figure = Figure(f"STS is unreachable from minute {down} to minute {back}: no request fails", 340)
    scale = (RIGHT - LEFT) / (75 * 60)

    def at(minute: float) -> float:
        return LEFT + minute * 60 * scale

    figure.rect("unreachable", at(down), 16, (back - down) * 60 * scale, 208)
    figure.text(at(down) - 8, 34, "STS is unreachable", "ink small", "end")
    figure.text(LEFT, 70, "attempts")
    attempt = usually_due(3600) / 60
    while attempt < back:
        # Strokes, since crosses a minute apart would run into each other.
        figure.line(at(attempt), 56, at(attempt), 74, "failed")
        attempt += RETRY_INTERVAL / 60
    figure.dot(at(attempt), 65)
    figure.text(at(attempt) + 9, 70, "success", "ink small")
    figure.text(LEFT, 106, "credentials")
    figure.lifetime(LEFT, 114, 3600, scale)
    figure.text(LEFT, 166, "new credentials")
    figure.rect("good", at(attempt), 174, RIGHT - at(attempt), 26)
    figure.axis(224, 75, 15, scale)
    figure.legend(278)
    return figure


def lambda_instance() -> Figure:
    """The life of one Lambda instance."""
    figure = Figure("The life of one Lambda instance: one call to STS in an hour, none at init", 372)
    scale = (RIGHT - LEFT) / (75 * 60)

    def at(minute: float) -> float:
        return LEFT + minute * 60 * scale

    calls = (4, 7, 8, 14, 21, 22, 30, 39, 45, 52, 58, 59, 66, 71)
    due = usually_due(3600) / 60
    refreshed = next(call for call in calls if call - calls[0] >= due)
    figure.text(LEFT, 30, "init: assume_role(), no call to STS", "ink small")
    figure.rect("box", at(0), 38, at(3) - at(0), 26)
    figure.text(LEFT, 88, "invocations", "ink small")
    for call in calls:
        figure.rect("mark", at(call), 96, 4, 26)
    for call, text, anchor, x in (
        (calls[0], "first invocation", "start", at(calls[0])),
        (refreshed, "first one in the window", "end", RIGHT),
    ):
        figure.line(at(call) + 2, 122, at(call) + 2, 138)
        figure.dot(at(call) + 2, 140)
        figure.text(x, 163, text, "ink small", anchor)
    figure.text(LEFT, 193, "credentials: AssumeRole is called at each dot", "ink small")
    figure.lifetime(at(calls[0]), 201, 3600, scale)
    figure.rect("good", at(refreshed), 230, RIGHT - at(refreshed), 26)
    figure.axis(266, 75, 15, scale)
    figure.legend(314)
    return figure


def chain() -> Figure:
    """A chain of sessions, and what goes from each to the next."""
    figure = Figure("A chain: each session is its parent with other credentials", 366)
    boxes = ((18, "boto3.Session", "your keys or profile"), (130, "hub", "role Hub"), (242, "spoke", "role Spoke"))
    for y, name, what in boxes:
        figure.rect("box", 120, y, 180, 58, radius=6)
        figure.text(210, y + 25, name, "ink strong", "middle")
        figure.text(210, y + 45, what, "ink small", "middle")
    for y in (76, 188):
        figure.arrow(210, y + 2, y + 52)
        figure.text(222, y + 32, "signs AssumeRole", "ink small")
    figure.text(WIDTH / 2, 328, "inherited, live: region, profile, client config", "ink small", "middle")
    figure.text(WIDTH / 2, 350, "never: keys, tokens, cache entries", "ink small", "middle")
    return figure


def call() -> Figure:
    """The way of a call: what assume_role() does at once, and what the first request does."""
    figure = Figure("The way of a call: STS is called when the session is first used", 520)

    def steps(y: float, *lines: tuple[str, str]) -> None:
        for number, (module, what) in enumerate(lines):
            figure.rect("box", LEFT, y, 122, 30, radius=6)
            figure.text(LEFT + 61, y + 20, module, "ink small strong", "middle")
            figure.text(LEFT + 134, y + 20, what, "ink small")
            if number < len(lines) - 1:
                figure.arrow(LEFT + 61, y + 30, y + 42)
            y += 42

    figure.text(LEFT, 32, "assume_role(...): no call to STS", "strong ink")
    steps(
        44,
        ("_parameters", "checks what is requested"),
        ("_role", "knows what is requested, by whom"),
        ("_credentials", "know when to refresh: not yet"),
        ("_session", "has the parent's settings"),
        ("your code", "gets the session"),
    )
    figure.text(LEFT, 280, "the first request: STS", "strong ink")
    steps(
        292,
        ("_credentials", "due? one thread goes on"),
        ("_role", "cached? if not, AssumeRole"),
        ("_sts", "a client, signing as the parent"),
        ("_answers", "is it complete and valid?"),
        ("_credentials", "all threads sign with these keys"),
    )
    return figure


def further_role() -> Figure:
    """CPU time and memory of one more role: two bar charts."""
    further = {name: each for name, each in BENCHMARK["further_roles"].items() if "plain" not in name}
    height = 68 + 2 * 50 * len(further) + 46
    figure = Figure("CPU time and memory of one more role with an S3 client, beside other ways", height)
    y = 34
    for title, values, unit in (
        ("CPU time of one more role (milliseconds)", [each["cpu_ms"] for each in further.values()], "ms"),
        ("Memory of one more role (megabytes)", [(each["bytes"] or 0) / 1e6 for each in further.values()], "MB"),
    ):
        figure.text(LEFT, y, title, "ink strong")
        y += 30
        for name, value in zip(further, values, strict=True):
            length = max((RIGHT - LEFT - 90) * value / max(values), 2)
            figure.text(LEFT, y, name)
            figure.rect("good" if name == "aws-assume-role-lib" else "faint", LEFT, y + 7, length, 16, radius=2)
            figure.text(LEFT + length + 8, y + 20, f"{value:.3g} {unit}")
            y += 50
        y += 16
    return figure


def scan() -> Figure:
    """What the clients of the benchmark's scan take, as their number grows: three panels."""
    points = BENCHMARK["scan"]
    figure = Figure("A scan of many accounts and regions: what its clients take, as their number grows", 704)
    for panel, (title, values) in enumerate(
        {
            "CPU time of one more client (milliseconds)": [point["seconds"] * 1e3 for point in points],
            "Memory of all clients (megabytes)": [(point["bytes"] or 0) / 1e6 for point in points],
            "Open files and sockets": [point["files"] or 0 for point in points],
        }.items()
    ):
        top = 50 + 230 * panel
        figure.text(LEFT, top - 16, title, "ink strong")
        figure.growth(top, [point["clients"] for point in points], values)
        figure.text((LEFT + 44 + RIGHT) / 2, top + 172, "clients in the process", "faint small", "middle")
    return figure


def round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


FIGURES = {
    "call": call,
    "refresh": refresh,
    "outage": outage,
    "lambda": lambda_instance,
    "chain": chain,
    "further-role": further_role,
    "scan": scan,
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
