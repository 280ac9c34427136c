"""Draw the figures of the documentation: ``python docs/figures.py [folder]``, into docs/figures by default.

What they show to scale is computed from the package's own constants, so that a figure cannot outlive a change.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from aws_assume_role_lib._credentials import BLOCKING_WINDOW
from aws_assume_role_lib._keys import refresh_window
from aws_assume_role_lib._sts import RETRY_INTERVAL

WIDTH = 760
LEFT, RIGHT = 182, 736

# Every figure has a background of its own, so that it can be read on any page, and follows the reader's choice of
# light or dark where the viewer passes it on.
STYLE = """
  .paper { fill: #ffffff; stroke: #c9ced6 } .ink { fill: #1c2128 } .faint { fill: #57606a }
  .line { stroke: #57606a; fill: none } .good { fill: #2da44e } .early { fill: #d4a72c } .late { fill: #8a5a00 }
  .away { fill: #8250df; fill-opacity: .25 } .box { fill: #eef4fb; stroke: #0969da } .mark { fill: #0969da }
  .failed { stroke: #cf222e; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #161b22; stroke: #3d444d } .ink { fill: #f0f3f6 } .faint { fill: #b1bac4 }
    .line { stroke: #b1bac4 } .good { fill: #3fb950 } .early { fill: #e3b341 } .late { fill: #a8700f }
    .away { fill: #a371f7; fill-opacity: .4 } .box { fill: #12263f; stroke: #58a6ff } .mark { fill: #58a6ff }
    .failed { stroke: #f85149 }
  }
  text { font: 16px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
  .small { font-size: 14px } .strong { font-weight: 600 }
"""


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

    def arrow(self, x1: float, x2: float, y: float) -> None:
        self.line(x1, y, x2 - 8, y)
        self.parts.append(f'<path class="faint" d="M{x2:.1f} {y:.1f} l-10 -5 v10 z"/>')

    def dot(self, x: float, y: float) -> None:
        self.parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')

    def cross(self, x: float, y: float) -> None:
        self.line(x - 2, y - 4, x + 2, y + 4, "failed")
        self.line(x - 2, y + 4, x + 2, y - 4, "failed")

    def lifetime(self, x: float, y: float, seconds: float, scale: float) -> None:
        """The life of one set of credentials: good, in the refresh window, in its last seconds."""
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
            self.text(x, y + 20, f"{minute}", "faint small", "middle")
        self.text(LEFT - 12, y + 20, "minutes", "faint small", "end")

    def legend(self, y: float, *entries: tuple[str, str]) -> None:
        x = 20.0
        for kind, text in entries:
            self.rect(kind, x, y - 11, 13, 13, radius=2)
            self.text(x + 19, y, text, "ink small")
            x += 40 + 7.1 * len(text)

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img">\n{body}\n</svg>\n'
        )


LIFE = (
    ("good", "used as they are"),
    ("early", "one caller refreshes, the rest go on"),
    ("late", "all wait for one call"),
)


def refresh() -> Figure:
    """The refresh window, to scale."""
    figure = Figure("When credentials are refreshed, to scale", 190)
    scale = (RIGHT - LEFT) / 3600
    for y, name, seconds in ((24, "granted 1 hour", 3600), (70, "granted 15 minutes", 900)):
        figure.text(LEFT - 12, y + 18, name, anchor="end")
        figure.lifetime(LEFT, y, seconds, scale)
    figure.axis(110, 60, 15, scale)
    figure.legend(170, *LIFE)
    return figure


def outage() -> Figure:
    """An outage of STS from minute 41 to minute 58 of an hour."""
    away, back = 41, 58
    figure = Figure(f"STS is away from minute {away} to minute {back}: no request fails", 250)
    scale = (RIGHT - LEFT) / (80 * 60)

    def at(minute: float) -> float:
        return LEFT + minute * 60 * scale

    figure.rect("away", at(away), 20, (back - away) * 60 * scale, 150)
    figure.text(at((away + back) / 2), 38, "STS away", anchor="middle")
    figure.text(LEFT - 12, 73, "attempts", anchor="end")
    attempt = (3600 - refresh_window(3600)) / 60
    while attempt < back:
        figure.cross(at(attempt), 68)
        attempt += RETRY_INTERVAL / 60
    figure.dot(at(attempt), 68)
    figure.text(at(attempt) + 12, 73, "the first to succeed", "ink small")
    figure.text(LEFT - 12, 108, "credentials", anchor="end")
    figure.lifetime(LEFT, 90, 3600, scale)
    figure.text(LEFT - 12, 148, "new ones", anchor="end")
    figure.rect("good", at(attempt), 130, RIGHT - at(attempt), 26)
    figure.axis(178, 80, 10, scale)
    figure.legend(234, *LIFE)
    return figure


def lambda_instance() -> Figure:
    """The life of one Lambda instance."""
    figure = Figure("The life of one Lambda instance: one call to STS in an hour, none at init", 245)
    scale = (RIGHT - LEFT) / (70 * 60)

    def at(minute: float) -> float:
        return LEFT + minute * 60 * scale

    calls = (1, 4, 5, 11, 18, 19, 27, 36, 42, 49, 55, 56, 63, 68)
    due = (3600 - refresh_window(3600)) / 60
    refreshed = next(call for call in calls if call - calls[0] >= due)
    figure.text(LEFT - 12, 50, "invocations", anchor="end")
    figure.rect("box", at(0), 32, at(1) - at(0) - 2, 26)
    figure.text(at(0), 24, "init: assume_role(), no network", "ink small")
    for call in calls:
        figure.rect("mark", at(call), 32, 4, 26)
    figure.text(LEFT - 12, 88, "AssumeRole", anchor="end")
    for call in (calls[0], refreshed):
        figure.dot(at(call) + 2, 83)
        figure.line(at(call) + 2, 60, at(call) + 2, 78)
    figure.text(at(calls[0]) + 14, 88, "first invocation", "ink small")
    figure.text(at(refreshed) + 14, 88, "first one in the window", "ink small")
    figure.text(LEFT - 12, 123, "credentials", anchor="end")
    figure.lifetime(at(calls[0]), 105, 3600, scale)
    figure.text(LEFT - 12, 158, "new ones", anchor="end")
    figure.rect("good", at(refreshed), 140, RIGHT - at(refreshed), 26)
    figure.axis(178, 70, 10, scale)
    figure.legend(230, *LIFE)
    return figure


def chain() -> Figure:
    """A chain of sessions, and what goes from each to the next."""
    figure = Figure("A chain: each session is its parent with other credentials", 190)
    boxes = (
        (25, "boto3.Session", "your keys or profile"),
        (295, "hub", "role Hub in 1111…"),
        (565, "spoke", "role Spoke in 2222…"),
    )
    for x, name, what in boxes:
        figure.rect("box", x, 55, 170, 70, radius=6)
        figure.text(x + 85, 85, name, "ink strong", "middle")
        figure.text(x + 85, 107, what, "ink small", "middle")
    for x in (195, 465):
        figure.arrow(x + 4, x + 97, 90)
        figure.text(x + 50, 80, "signs", "ink small", "middle")
        figure.text(x + 50, 110, "AssumeRole", "ink small", "middle")
    inherited = "region, profile settings, client config: from the parent, at the time of asking"
    figure.text(WIDTH / 2, 32, inherited, anchor="middle")
    figure.text(WIDTH / 2, 160, "keys, tokens, cache entries: never", anchor="middle")
    return figure


FIGURES = {"refresh": refresh, "outage": outage, "lambda": lambda_instance, "chain": chain}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figures")
