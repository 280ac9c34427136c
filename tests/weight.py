"""Print how large the package, its tests and its docs are, each beside its limit, so that none grows unseen.

A limit is not a target: raise it in the commit that needs it, and say there why.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "aws_assume_role_lib"
BLANK = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
LOADED = (
    "import sys, aws_assume_role_lib as a; print(*(m.__file__ for n, m in sys.modules.items()"
    " if n.split('.')[0] == a.__name__), sep='\\n')"
)


def code_lines(files: Iterable[Path]) -> int:
    """Count the lines that are not blank, comments or docstrings."""
    count = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in BLANK:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
        count += len(lines)
    return count


def main() -> None:
    """Print the table; exit with 1 if something is above its limit."""
    sources = list(PACKAGE.rglob("*.py"))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout
    weights = {
        "lines of code": (code_lines(sources), 3025),
        "lines of code that an import loads": (code_lines(map(Path, loaded.split("\n")[:-1])), 2020),
        "uses of internals": (sum(file.read_text("utf-8").count("botocore internal") for file in sources), 12),
        "lines of tests": (sum(len(f.read_text("utf-8").splitlines()) for f in (ROOT / "tests").rglob("*.py")), 14610),
        "words of docs": (sum(len(page.read_text("utf-8").split()) for page in pages), 16000),
    }
    for what, (weight, limit) in weights.items():
        print(f"{weight:7,} {what}; the limit is {limit:,}")
    sys.exit(any(weight > limit for weight, limit in weights.values()))


if __name__ == "__main__":
    main()
