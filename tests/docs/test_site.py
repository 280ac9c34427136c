"""The site reads well: no page is wider than a phone, and neither a page nor the source has an unidiomatic phrase."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import run
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
    if missing := {name for name in ("sphinx", "furo", "myst_parser", "sphinx_design") if not find_spec(name)}:
        pytest.skip(f"{', '.join(missing)}: not here; tox run -e docs has them")
    out, doctrees = (tmp_path_factory.mktemp(name) for name in ("site", "doctrees"))
    build = run(sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", doctrees, DOCS, out, timeout=300)
    assert build.returncode == 0, build.stderr
    return out


@pytest.mark.timeout(400)
def test_no_page_is_wider_than_the_screen(site: Path, tmp_path: Path) -> None:
    """On a phone, a tablet and a desktop, no page scrolls sideways: wide tables and code scroll by themselves."""
    if BROWSER is None:
        assert "GITHUB_ACTIONS" not in os.environ, "the runner has no Chromium"
        pytest.skip("there is no Chromium here, which shows how wide a page is: apt-get install chromium")
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_" not in path.parts[-2])
    measure = site / "measure.html"
    measure.write_text(MEASURE % {"widths": [360, 820, 1440], "pages": json.dumps(pages)})
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=120000 --dump-dom"
    flags += " --disable-background-networking --disable-component-update --allow-file-access-from-files"
    shown = run(BROWSER, *flags.split(), f"--user-data-dir={tmp_path}", measure.as_uri(), timeout=300)
    match = re.search(r'<pre id="result">(.+?)</pre>', shown.stdout, re.DOTALL)
    assert match, shown.stdout[-2000:] + shown.stderr[-2000:]
    assert json.loads(html.unescape(match[1])) == {"measured": 3 * len(pages), "found": []}


def test_each_page_has_a_description(site: Path) -> None:
    """Each of our pages has its own meta description, which search engines show."""
    descriptions = []
    for page in PAGES[1:]:  # the first is the README
        built = site / page.relative_to(DOCS).with_suffix(".html")
        descriptions += re.findall(r'<meta [^>]*name="description"[^>]*>', built.read_text(encoding="utf-8"))
    assert len(set(descriptions)) == len(descriptions) == len(PAGES[1:])


LINES = (DOCS / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
VOCABULARY = [line.split(" => ") for line in LINES if not line.startswith("#")]
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
