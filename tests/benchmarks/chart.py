"""The charts of the benchmarks page, as SVG.

Each has its own background and fixed colours, so that it looks the same on a light and a dark page, and is a narrow
column with large text, so that it can be read on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

WIDTH, MARGIN = 420, 20
STYLE = """
  text { font: 16px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #2b2a27 }
  .title { font-weight: 600 } .small { font-size: 14px; fill: #5c574d }
  .paper { fill: #faf6ec; stroke: #d8cfbb } .bar { fill: #a89f8d } .ours { fill: #0b6e4f }
  .grid { stroke: #d8cfbb } .line { fill: none; stroke: #0b6e4f; stroke-width: 3; stroke-linejoin: round }
"""


def draw_bars(result: dict[str, Any]) -> str:
    """CPU time and memory of one more role: two horizontal bar charts."""
    further = {name: each for name, each in result["further_roles"].items() if "plain" not in name}
    cpu = {name: each["cpu_ms"] for name, each in further.items()}
    memory = {name: each["bytes"] / 1e6 for name, each in further.items() if each["bytes"] is not None}
    parts, y = [], 34.0
    for title, values, unit in (
        ("CPU time of one more role (milliseconds)", cpu, "ms"),
        ("Memory of one more role (megabytes)", memory, "MB"),
    ):
        parts.append(_text(MARGIN, y, title, "title"))
        y += 30
        for name, value in values.items():
            length = max((WIDTH - 2 * MARGIN - 90) * max(value, 0) / max(values.values()), 2)
            kind = "ours" if name == next(iter(further)) else "bar"
            parts += [
                _text(MARGIN, y, name),
                f'<rect class="{kind}" x="{MARGIN}" y="{y + 7:g}" width="{length:.1f}" height="16" rx="2"/>',
                _text(MARGIN + length + 8, y + 20, f"{value:.3g} {unit}"),
            ]
            y += 50
        y += 16
    return _paper("CPU time and memory of one more role with an S3 client, beside other ways", y - 14, parts)


def draw_growth(result: dict[str, Any]) -> str:
    """CPU time, memory and open files of a scan against its number of clients: three panels."""
    scan, parts, y = result["scan"], [], 34.0
    panels: tuple[tuple[str, Callable[[dict[str, Any]], float | None]], ...] = (
        ("CPU time of one more client (milliseconds)", lambda point: point["seconds"] * 1e3),
        ("Memory of all clients (megabytes)", lambda point: point["bytes"] and point["bytes"] / 1e6),
        ("Open files and sockets", lambda point: point["files"]),
    )
    for title, get in panels:
        points = [(point["clients"], value) for point in scan if (value := get(point)) is not None]
        parts += [_text(MARGIN, y, title, "title"), *_panel(y + 16, points)]
        y += 230
    return _paper("A scan of many accounts and regions: what its clients take, as their number grows", y - 20, parts)


def _panel(top: float, points: list[tuple[int, float]]) -> Iterator[str]:
    left, right, bottom = MARGIN + 44, WIDTH - MARGIN, top + 130
    if not points:
        yield _text(left, top + 60, "not measured on this system", "small")
        return
    most_x, most_y = points[-1][0], _round_up(max(y for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / most_x, bottom - (bottom - top) * y / most_y

    for part in range(5):
        x, y = at(most_x * part / 4, most_y * part / 4)
        yield f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
        yield _text(left - 8, y + 5, f"{most_y * part / 4:g}", "small", "end")
        yield _text(x, bottom + 20, f"{most_x * part // 4:,}", "small", "end" if part == 4 else "middle")
    yield _text((left + right) / 2, bottom + 42, "clients in the process", "small", "middle")
    yield '<path class="line" d="M{}"/>'.format(" ".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in points))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _paper(title: str, height: float, parts: list[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" viewBox="0 0 {WIDTH} {height:g}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
