"""Sphinx's configuration: ``python -m sphinx -W --keep-going -n -b html docs OUT``."""

from __future__ import annotations

import builtins
import importlib.metadata
import inspect
import json
import os
import re
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import aws_assume_role_lib

HERE = Path(__file__).parent

project = "aws-assume-role-lib"
author = "The aws-assume-role-lib authors"
project_copyright = author
version = release = aws_assume_role_lib.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxext.opengraph",
]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = f"{project} {release}"
repository = dict(line.split(", ") for line in importlib.metadata.metadata(project).get_all("Project-URL") or [])[
    "Source"
]
html_theme_options = {
    # Until the release. The line with pip is on several pages.
    "announcement": "Until version 3.0.0 is on PyPI, install from a checkout: <code>python -m pip install .</code>",
    "footer_icons": [{"name": "Source", "url": repository, "html": "Source", "class": ""}],
    # Code blocks and cards that stand out from the page, in both themes.
    "light_css_variables": {"color-code-background": "#f1f4f8", "color-card-border": "#b8c2cf"},
    "dark_css_variables": {"color-code-background": "#1d232b", "color-card-border": "#4a5563"},
}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "github-dark"
copybutton_exclude = ".linenos, .gp, .go"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
# Types of arguments that have no page of their own: the text says what they are.
nitpick_ignore = [
    ("py:class", "aws_assume_role_lib._cache.CredentialCache"),
    ("py:class", "aws_assume_role_lib._parameters.AutomaticRoleSessionName"),
]
# Read the Docs sets it. Elsewhere the pages have no address, and a card without one is of no use.
ogp_site_url = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
ogp_social_cards = {
    "enable": bool(ogp_site_url),
    "image": "_static/logo.png",  # the logo as a bitmap, which cards need
    "line_color": "#0b57b0",
}
ogp_description_length = 160

# Where an inventory cannot be fetched, this empty one is the working alternative that Sphinx asks for.
_empty = Path(tempfile.mkdtemp()) / "objects.inv"
_empty.write_bytes(
    b"# Sphinx inventory version 2\n# Project: offline\n# Version: 0\n"
    b"# The remainder of this file is compressed using zlib.\n" + zlib.compress(b"")
)
intersphinx_mapping = {
    name: (url, (None, str(_empty)))
    for name, url in {
        "python": "https://docs.python.org/3/",
        "boto3": "https://boto3.amazonaws.com/v1/documentation/api/latest/",
        "botocore": "https://botocore.amazonaws.com/v1/documentation/api/latest/",
    }.items()
}
intersphinx_timeout = 10


def _is_external(target: str) -> bool:
    root = target.partition(".")[0]
    return root in ("boto3", "botocore", "aiobotocore") or root in sys.stdlib_module_names or hasattr(builtins, root)


def _without_link(app: Sphinx, env: Any, node: nodes.Element, text: nodes.Node) -> nodes.Node | None:
    """Leave a name of another project unlinked where its inventory lacks it, or could not be fetched."""
    return text if node.get("refdomain") == "py" and _is_external(node["reftarget"]) else None


class Benchmark(SphinxDirective):
    """A part of what the last ``tox run -e bench`` found: its conclusion, a chart, the machine, or our targets."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        source = HERE / "benchmark.json"
        self.env.note_dependency(str(source))
        if not source.exists():
            return [nodes.paragraph(text="The benchmark has not been run yet: tox run -e bench.")]
        part = {
            "conclusion": lambda result: [nodes.paragraph(text=_conclusion(result))],
            "bars": lambda result: [self._chart("further-role", _described(result))],
            "scan": lambda result: [nodes.paragraph(text=_scan(result))],
            "growth": lambda result: [self._chart("scan", _growth(result))],
            "machine": lambda result: [_facts({"date": result["date"], **result["machine"], **result["versions"]})],
            "targets": lambda result: [_table(("what", "measured", "target", "verdict", "figures"), result["rows"])],
        }[self.arguments[0]]
        return list(part(json.loads(source.read_text(encoding="utf-8"))))

    def _chart(self, name: str, description: str) -> nodes.image:
        self.env.note_dependency(str(HERE / "figures" / f"{name}.svg"))
        return nodes.image(uri=f"/figures/{name}.svg", alt=description)


def _conclusion(result: dict[str, Any]) -> str:
    further = result["further_roles"]
    ours, recipe = further["aws-assume-role-lib"], further["recipe by hand"]
    memory = "not measured on this system"
    if ours["bytes"] is not None:
        memory = f"{ours['bytes'] / 1e6:.2g} MB, where the recipe takes {recipe['bytes'] / 1e6:.3g} MB"
    return (
        f"One more role takes {ours['cpu_ms']:.2g} ms of CPU time, where the recipe takes {recipe['cpu_ms']:.3g} ms: "
        f"{recipe['cpu_ms'] / ours['cpu_ms']:.0f} times as much. Its memory is {memory}. "
        f"It opens {ours['handshakes']:.2g} new TLS connections, and the recipe opens {recipe['handshakes']:.2g}."
    )


def _described(result: dict[str, Any]) -> str:
    each = [
        f"{name}: {cost['cpu_ms']:.3g} ms" + ("" if cost["bytes"] is None else f" and {cost['bytes'] / 1e6:.3g} MB")
        for name, cost in result["further_roles"].items()
    ]
    return f"CPU time and memory of one more role. {'; '.join(each)}."


def _scan(result: dict[str, Any]) -> str:
    first, last = result["scan"][0], result["scan"][-1]
    memory = "" if last["bytes"] is None else f"all clients together take {last['bytes'] / 1e6:.3g} MB of memory, and "
    return (
        f"Among the first {first['clients']:,} clients, one more takes {first['seconds'] * 1e3:.3g} ms of CPU time. "
        f"Among the last of {last['clients']:,}, it takes {last['seconds'] * 1e3:.3g} ms. "
        f"At the end, {memory}{last['files']} files and sockets are open."
    )


def _growth(result: dict[str, Any]) -> str:
    first, last = result["scan"][0], result["scan"][-1]
    return (
        f"A scan of up to {last['clients']:,} clients. CPU time of one more client: {first['seconds'] * 1e3:.3g} ms at "
        f"first, {last['seconds'] * 1e3:.3g} ms at last. Open files and sockets at last: {last['files']}."
    )


def _facts(facts: dict[str, Any]) -> nodes.bullet_list:
    return nodes.bullet_list(
        "", *[nodes.list_item("", nodes.paragraph(text=f"{key}: {value}")) for key, value in facts.items()]
    )


class Soak(SphinxDirective):
    """The figures of the last ``tox run -e soak``, as it left them."""

    def run(self) -> list[nodes.Node]:
        source = HERE / "soak.json"
        self.env.note_dependency(str(source))
        if not source.exists():
            return [nodes.paragraph(text="The soak has not been run yet: tox run -e soak.")]
        result = json.loads(source.read_text(encoding="utf-8"))
        group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in range(2)], cols=2)
        group += nodes.thead("", _row(("what", "figure")))
        errors = {f"errors: {name}": count for name, count in result["errors"].items()}
        cells = [(what, f"{figure:,}") for what, figure in {**result["figures"], **errors}.items()]
        group += nodes.tbody("", *[_row(each) for each in cells])
        facts = {"date": result["date"], **result["machine"], **result["versions"]}
        return [nodes.table("", group), _facts(facts)]


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> nodes.table:
    def measured(row: dict[str, Any]) -> str:
        return "" if row["value"] is None else f"{row['value']:.3g}{row['unit']}"

    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in columns], cols=len(columns))
    group += nodes.thead("", _row(columns))
    cells = [(row["what"], measured(row), row["target"], row["verdict"], row["figure"]) for row in rows]
    group += nodes.tbody("", *[_row(each) for each in cells])
    return nodes.table("", group)


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph(text=cell)) for cell in cells])


# assume_role()'s parameters by purpose, instead of one list of twenty.
PARAMETERS = {
    "Most used": ("session", "RoleArn", "RoleSessionName", "ExternalId", "region_name"),
    "Restricting the session": ("Policy", "PolicyArns", "DurationSeconds"),
    "MFA": ("SerialNumber", "TokenCode"),
    "Telling others who is behind it": ("Tags", "TransitiveTagKeys", "SourceIdentity", "ProvidedContexts"),
    "Caching and connecting": ("cache", "sts_client_kwargs"),
    "Rarely needed": ("validate", "MinimumSessionTokenSize", "additional_kwargs"),
}
VERSIONS = {
    "RoleSessionName": ("versionchanged", "A function is accepted."),
    "TokenCode": ("versionchanged", "A function is accepted."),
    "Tags": ("versionchanged", "A mapping is accepted."),
    "ProvidedContexts": ("versionadded", ""),
    "MinimumSessionTokenSize": ("versionadded", ""),
    "sts_client_kwargs": ("versionadded", ""),
}


def _group_parameters(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Replace the docstring's list of assume_role()'s parameters by groups, with an anchor and the type for each."""
    if name != "aws_assume_role_lib.assume_role":
        return
    start, end = lines.index("Args:"), lines.index("Returns:")
    described: dict[str, list[str]] = {}
    for line in lines[start + 1 : end]:
        if entry := re.match(r"    (\w+): (.*)", line):
            text = described[entry[1]] = [entry[2]]
        elif line.strip():
            text.append(line.strip())
    signature = inspect.signature(obj).parameters
    assert list(described) == list(signature)
    assert sorted(each for group in PARAMETERS.values() for each in group) == sorted(described)
    grouped = [".. role:: permalink(raw)", "   :format: html", ""]
    for title, names in PARAMETERS.items():
        grouped += [f".. rubric:: {title}", ""]
        for each in names:
            anchor = f"assume-role-{each.replace('_', '-').lower()}"
            # eval-rst keeps names to itself, so the links of other pages would not find them.
            app.env.get_domain("std").note_hyperlink_target(anchor, app.env.docname, anchor)
            link = f':permalink:`<a class="headerlink" href="#{anchor}" title="Link to this parameter">¶</a>`'
            grouped += [".. container:: parameter", f"   :name: {anchor}", ""]
            default = signature[each].default
            default = "" if default in (None, inspect.Parameter.empty) else f" = {default}"
            grouped += [f"   **{each}**: ``{signature[each].annotation}{default}`` {link}", ""]
            grouped += [*(f"   {line}" for line in described[each]), ""]
            if each in VERSIONS:
                directive, note = VERSIONS[each]
                grouped += [f"   .. {directive}:: 3.0", f"      {note}", ""]
    lines[start:end] = grouped


def _describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a card the page's description instead of its first words, and add an icon for browsers without SVG icons."""
    if not doctree:
        return
    context["metatags"] += f'<link rel="alternate icon" href="{context["pathto"]("_static/logo.png", resource=True)}">'
    for meta in doctree.findall(nodes.meta):
        if meta.get("name") == "description":
            context["meta"] = {**(context["meta"] or {}), "og:description": meta["content"]}


def _let_code_break(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let code in a table break after punctuation, where a phone has no room for it, and not within a word."""
    for table in doctree.findall(nodes.table):
        for literal in list(table.findall(nodes.literal)):
            pieces = re.split(r"(?<=[_.:(=/,])", literal.astext())
            literal.children = []
            for piece in pieces:
                literal += [nodes.Text(piece), nodes.raw("", "<wbr>", format="html")]


def setup(app: Sphinx) -> None:
    # Before napoleon, which has the default priority of 500.
    app.connect("autodoc-process-docstring", _group_parameters, priority=400)
    # Before sphinxext.opengraph, which has the default priority.
    app.connect("html-page-context", _describe, priority=400)
    app.add_directive("benchmark", Benchmark)
    app.add_directive("soak", Soak)
    app.connect("doctree-resolved", _let_code_break)
    # After intersphinx, which has the default priority of 500.
    app.connect("missing-reference", _without_link, priority=900)
