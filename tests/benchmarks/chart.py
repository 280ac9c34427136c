"""Time and memory per further role against the number of roles, drawn as SVG for light and dark pages."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 400
TOP, BOTTOM, PANEL = 84, 316, 340  # the plots' upper and lower edges, and their width
LEFTS = (60, 490)
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  path { fill: none; stroke-width: 2; stroke-linejoin: round }
  .c0 { stroke: #59636e; stroke-dasharray: 2 3 } .c1 { stroke: #0969da; stroke-width: 3 }
  .c2 { stroke: #bc4c00 } .c3 { stroke: #8250df; stroke-dasharray: 8 3 } .c4 { stroke: #1a7f37; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d }
    .c0 { stroke: #9198a1 } .c1 { stroke: #4493f8 } .c2 { stroke: #f0883e }
    .c3 { stroke: #ab7df8 } .c4 { stroke: #3fb950 }
  }
"""


def draw(result: dict[str, Any]) -> str:
    """The chart of one run's result, as bench.py makes it."""
    roles = result["further_roles"]
    times, sizes = {}, {}
    for name, each in roles.items():
        numbers = [number for number, _ in each["bytes"]]
        times[name] = [
            (number, statistics.median(map(sum, each["seconds"][before:number])) * 1e3)
            for before, number in itertools.pairwise([0, *numbers])
        ]
        sizes[name] = [(number, size / 1e6) for number, size in each["bytes"] if size]
    machine = "{cpu}, {cores} cores, {system}, Python {python}".format(**result["machine"])
    captions = (
        f"{machine}, {result['date']}",
        ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Time and memory of each further role with its s3, dynamodb and ec2 clients</title>",
        f"<style>{STYLE}</style>",
        *_legend(list(roles)),
        *_panel(LEFTS[0], "Time per further role (ms)", times),
        *_panel(LEFTS[1], "Memory per further role (MB)", sizes),
        *(_text(20, HEIGHT - 30 + 16 * n, line, "small") for n, line in enumerate(captions)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: list[str]) -> list[str]:
    parts, x = [], 20.0
    for n, name in enumerate(names):
        parts += [f'<path class="c{n}" d="M{x:g} 22h24"/>', _text(x + 30, 26, name)]
        x += 54 + 7 * len(name)
    return parts


def _panel(left: int, title: str, lines: dict[str, list[tuple[int, float]]]) -> list[str]:
    points = [point for line in lines.values() for point in line]
    parts = [_text(left - 40, TOP - 22, title)]
    if not points:
        return [*parts, _text(left, TOP + 40, "not measured on this system", "small")]
    low = math.floor(math.log10(min(y for _, y in points)))
    high = math.ceil(math.log10(max(y for _, y in points)))
    most = max(x for x, _ in points)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + PANEL * x / most, BOTTOM - (BOTTOM - TOP) * (math.log10(y) - low) / (high - low)

    for tick in (m * 10**power for power in range(low, high) for m in (1, 2, 5)):
        y = at(0, tick)[1]
        parts += [
            f'<path class="grid" d="M{left} {y:.1f}h{PANEL}"/>',
            _text(left - 8, y + 4, f"{tick:g}", "small", "end"),
        ]
    for x in range(0, most + 1, max(most // 5, 1)):
        parts.append(_text(at(x, 10**low)[0], BOTTOM + 16, str(x), "small", "middle"))
    parts.append(_text(left + PANEL / 2, BOTTOM + 34, "roles in the process", "small", "middle"))
    for n, line in enumerate(lines.values()):
        path = " ".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in line)
        parts.append(f'<path class="c{n}" d="M{path}"/>' if line else "")
    return parts
