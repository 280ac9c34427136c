"""The site reads well: no page is wider than a phone, and neither a page nor the source has an unidiomatic phrase."""

from __future__ import annotations

import functools
import html
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs import DOCS, PAGES, ROOT

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Each page is measured in a frame of each width, because media queries in a frame see the frame's width.
MEASURE = """<!doctype html><body><pre id="result"></pre><script>
const widths = %(widths)s, pages = %(pages)s, found = [];
async function main() {
  for (const width of widths) for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:800px;border:0`;
    frame.src = page;
    await new Promise(done => { frame.onload = done; document.body.append(frame); });
    const root = frame.contentDocument.documentElement;
    if (root.scrollWidth > width) {
      const wide = [...root.querySelectorAll("article *")].filter(e => e.getBoundingClientRect().right > width + 1);
      const culprits = wide.slice(0, 3).map(e => e.outerHTML.slice(0, 90));
      found.push(`${page} is ${root.scrollWidth} wide in ${width}: ${culprits}`);
    }
    frame.remove();
  }
  document.getElementById("result").textContent = JSON.stringify({measured: widths.length * pages.length, found});
  document.title = "done";
}
main();
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as tox builds it."""
    missing = [
        name for name in ("sphinx", "furo", "myst_parser", "sphinx_design") if not importlib.util.find_spec(name)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not here; tox run -e docs has them")
    out = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", tmp_path_factory.mktemp("doctrees"), DOCS, out],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert build.returncode == 0, build.stderr
    return out


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.timeout(400)
def test_no_page_is_wider_than_the_screen(site: Path, served: str, tmp_path: Path) -> None:
    """On a phone, a tablet and a desktop, no page scrolls sideways: wide tables and code scroll by themselves."""
    if BROWSER is None:
        assert "GITHUB_ACTIONS" not in os.environ, "the runner has no Chromium"
        pytest.skip("there is no Chromium here, which shows how wide a page is: apt-get install chromium")
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_" not in path.parts[-2])
    (site / "measure.html").write_text(MEASURE % {"widths": [360, 820, 1440], "pages": json.dumps(pages)})
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=120000 --dump-dom"
    shown = subprocess.run(
        [BROWSER, *flags.split(), f"--user-data-dir={tmp_path}", f"{served}/measure.html"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    match = re.search(r'<pre id="result">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert match, shown.stderr[-2000:]
    assert match[1], shown.stdout[-2000:]
    result = json.loads(html.unescape(match[1]))
    assert result == {"measured": 3 * len(pages), "found": []}


def test_each_page_has_a_description(site: Path) -> None:
    """Each of our pages has its own meta description, which search engines show."""
    described = {}
    for page in PAGES:
        if page.is_relative_to(DOCS):
            built = site / page.relative_to(DOCS).with_suffix(".html")
            (description,) = re.findall(r'<meta [^>]*name="description"[^>]*>', built.read_text(encoding="utf-8"))
            described[page.name] = description
    assert len(set(described.values())) == len(described)


VOCABULARY = [
    line.split(" => ")
    for line in (DOCS / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("page", [*PAGES, *SOURCES], ids=lambda page: str(page.relative_to(ROOT)))
def test_no_banned_phrase(page: Path) -> None:
    """The prose of a page, and the source of the package, has none of the phrases in the vocabulary."""
    text = page.read_text(encoding="utf-8")
    if page in SOURCES:
        # A comment or a message of several lines becomes one line.
        text = re.sub(r'\s*"?\n\s*(?:# |f?")?', " ", text)
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<!\n)\n(?![\n|#-])", " ", text)
    found = [
        f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 40]!r}: write {better!r}"
        for phrase, better in VOCABULARY
        for match in re.finditer(phrase, text, re.IGNORECASE | re.MULTILINE)
    ]
    assert found == []
