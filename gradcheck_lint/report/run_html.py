"""A watched run as one page of HTML that needs nothing else: no network, no script, light or dark as the reader likes.

What comes from the program is escaped in `markup`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.report import run_cycle, run_drawings, run_series
from gradcheck_lint.report.markup import prose, source, tag, words
from gradcheck_lint.report.run_text import blind_spots, listed, models_of, program
from gradcheck_lint.report.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck_lint.finding import Finding, Span
    from gradcheck_lint.runtime.record import RunRecord

_LOSSES = 4  # curves that are drawn
_NARROW = 12  # steps; pictures of no more stand side by side

_STYLE = """
:root { color-scheme: light dark; --back: #f7f7f5; --card: #ffffff; --ink: #1f2328; --soft: #5c6570; --faint: #8b949e;
  --line: #dfe2e6; --shade: #f1f2f0; --error: #c62f2f; --warning: #a66a00; --good: #2f7d43; --zero: #2f74b5;
  --backward: #c07a0c; --step: #3a8f4d; --clip: #8250b8; --schedule: #78818b; --heat: #2458a6; --mark: #ffe3df;
  --markwarn: #fff0cf; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181c; --card: #1d2127; --ink: #e3e6ea; --soft: #a2abb5; --faint: #78818b; --line: #333a42;
    --shade: #252a31; --error: #ff7b72; --warning: #e3a53d; --good: #5fbf78; --zero: #6cb0ee; --backward: #e5a94b;
    --step: #62c07a; --clip: #b692e6; --schedule: #949da8; --heat: #7fb2ff; --mark: #5a2523; --markwarn: #4d3a12; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 38px 0 4px; }
h3 { font-size: 14px; margin: 18px 0 6px; font-weight: 600; }
p { margin: 6px 0; }
.lead { color: var(--soft); margin: 0 0 12px; max-width: 68ch; }
.facts { color: var(--soft); margin: 6px 0 0; overflow-wrap: anywhere; }
.brand { color: var(--faint); font-size: 13px; margin: 0 0 4px; }
.verdict { display: inline-block; margin: 14px 0 0; padding: 4px 12px; border-radius: 999px; font-weight: 600;
  font-size: 14px; border: 1px solid currentColor; }
.verdict.error { color: var(--error); } .verdict.warning { color: var(--warning); }
.verdict.good { color: var(--good); } .verdict.none { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; margin: 14px 0;
  overflow-x: auto; }
.card > h3:first-child { margin-top: 0; }
.pair { display: flex; flex-wrap: wrap; gap: 14px; margin: 14px 0; }
.pair .card { flex: 1 1 300px; margin: 0; }
.cycles { display: flex; flex-wrap: wrap; gap: 0 36px; } .cycles h3 { margin-top: 8px; }
.finding { border-left: 4px solid var(--error); } .finding.warning { border-left-color: var(--warning); }
.finding h3 { font-size: 16px; margin: 0; }
.tags { margin: 0 0 4px; font-size: 13px; color: var(--soft); }
.tags b { color: var(--error); } .warning .tags b { color: var(--warning); }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 13px; tab-size: 4; }
p code, dd code, li code { background: var(--shade); padding: 1px 4px; border-radius: 4px; overflow-wrap: anywhere; }
pre { margin: 12px 0; background: var(--shade); border-radius: 6px; padding: 8px 0; overflow-x: auto;
  line-height: 1.55; }
pre .row { display: block; padding: 0 12px; white-space: pre; min-height: 1.55em; width: max-content; min-width: 100%; }
pre .file { color: var(--soft); } pre .no { color: var(--faint); display: inline-block; width: 4ch; text-align: right;
  margin-right: 14px; user-select: none; }
pre mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 1px 0; }
.warning pre mark { background: var(--markwarn); }
pre mark.other { background: none; border-bottom: 1px dashed var(--faint); border-radius: 0; }
pre .said { color: var(--error); white-space: pre-wrap; width: auto; padding-left: calc(4ch + 26px); }
.warning pre .said { color: var(--warning); } pre .said.other { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 10px 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
ul { padding-left: 20px; margin: 6px 0; } li { margin: 3px 0; overflow-wrap: anywhere; }
.key { font-size: 13px; color: var(--soft); margin: 8px 0 0; } .key span { margin-right: 14px; white-space: nowrap; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 5px; }
svg { display: block; max-width: none; } svg.fluid { width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--ink); }
svg .tick { font-size: 11px; fill: var(--faint); } svg .small { font-size: 11px; }
svg .again { font-size: 11px; fill: var(--soft); paint-order: stroke; stroke: var(--card); stroke-width: 5px; }
svg .strong { font-weight: 600; } svg .absent { fill: var(--error); }
svg .rule { stroke: var(--line); } svg .band { fill: var(--shade); }
svg .melody { fill: none; stroke: var(--faint); stroke-width: 1.2; opacity: 0.55; }
svg .ring { fill: var(--mark); stroke: var(--error); stroke-width: 1.5; }
.kind-zero { fill: var(--zero); background: var(--zero); } .kind-step { fill: var(--step); background: var(--step); }
.kind-backward { fill: var(--backward); background: var(--backward); }
.kind-unscale, .kind-clip { fill: var(--clip); background: var(--clip); }
.kind-schedule { fill: var(--schedule); background: var(--schedule); }
svg .curve { fill: none; stroke: var(--heat); stroke-width: 1.8; stroke-linejoin: round; }
svg .dot { fill: var(--heat); } svg .bad { fill: var(--error); } svg .heat { fill: var(--heat); }
svg .zero { fill: none; stroke: var(--line); }
svg .box { fill: var(--shade); stroke: var(--line); } svg .link { fill: none; stroke: var(--heat); stroke-width: 1.6;
  opacity: 0.55; }
svg .spot { fill: var(--heat); } svg .missing { fill: var(--error); } svg .gone { fill: var(--warning); }
svg .frozen { fill: var(--faint); } svg .link.gone { fill: none; stroke: var(--warning); stroke-dasharray: 4 3; }
svg .link.frozen { fill: none; stroke: var(--faint); } svg .link.missing { fill: none; }
footer { margin-top: 40px; color: var(--faint); font-size: 13px; }
"""


def render(record: RunRecord) -> str:
    """The whole page."""
    name = program(record)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = "".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            tag("title", f"{words(name)}: {words(_verdict(record)[1])} (gradlint)"),
            tag("style", _STYLE),
        ]
    )
    body = [_top(record), _findings(record), _cycle(record), _numbers(record), _map(record), _watched(record)]
    footer = tag("footer", "Made by gradlint. ", tag("code", "gradlint explain CODE"), " tells more about a finding.")
    page = tag("head", head) + tag("body", tag("main", *body, footer))
    return f"<!doctype html>\n{tag('html', page, lang='en')}\n"


def _verdict(record: RunRecord) -> tuple[str, str]:
    if record.findings:
        errors = any(finding.severity is Severity.ERROR for finding in record.findings)
        return "error" if errors else "warning", count(len(record.findings), "mistake")
    if not any(optimizer.steps for optimizer in record.optimizers):
        return "none", "nothing to judge"
    return "good", "all clear"


def _top(record: RunRecord) -> str:
    style, verdict = _verdict(record)
    steps = sum(optimizer.steps for optimizer in record.optimizers)
    facts = [count(steps, "step"), count(len(record.optimizers), "optimizer"), duration(record.seconds)]
    if record.ranks > 1:
        facts.append(f"rank {record.rank} of {record.ranks}")
    facts += [f"torch {record.torch}"] * bool(record.torch) + [f"Python {record.python}"] * bool(record.python)
    if record.ended != "ended":
        facts.append(record.ended)
    return "".join(
        [
            tag("p", "gradlint, a watched run", class_="brand"),
            tag("h1", words(program(record))),
            tag("p", words(" · ".join(facts)), class_="facts"),
            tag("p", tag("code", words(record.program)), class_="facts") if " " in record.program else "",
            tag("div", words(verdict[0].upper() + verdict[1:]), class_=f"verdict {style}"),
        ]
    )


def _section(title: str, lead: str, *content: str) -> str:
    return tag("h2", words(title)) + (tag("p", words(lead), class_="lead") if lead else "") + "".join(content)


# Findings


def _findings(record: RunRecord) -> str:
    if not record.findings:
        return ""
    order = sorted(record.findings, key=lambda f: (f.severity is not Severity.ERROR, -f.confidence))
    return _section("What is wrong", "", *(_finding(finding, record.sources) for finding in order))


def _finding(finding: Finding, sources: Mapping[str, Mapping[int, str]]) -> str:
    facts = [tag("b", words(f"{finding.severity} {finding.code}")), words(finding.slug)]
    if finding.step is not None:
        facts.append(f"step {finding.step}")
    if finding.confidence is not Confidence.HIGH:
        facts.append(f"{finding.confidence} confidence")
    said = [("why", finding.why), ("help", finding.help), ("note", finding.note)]
    return tag(
        "article",
        tag("p", " · ".join(facts), class_="tags"),
        tag("h3", prose(finding.message[:1].upper() + finding.message[1:])),
        tag("pre", *_code(finding, sources)),
        tag("dl", *(tag("dt", name) + tag("dd", prose(text)) for name, text in said if text)),
        class_=f"card finding {finding.severity}",
    )


def _code(finding: Finding, sources: Mapping[str, Mapping[int, str]]) -> Iterator[str]:
    """The lines that the finding speaks of with those around them, file by file, and what is said of each."""
    places = [(finding.span, finding.label, True), *((place.span, place.message, False) for place in finding.related)]
    for path in dict.fromkeys(span.path for span, _, _ in places):
        here = [place for place in places if place[0].path == path]
        first = here[0][0]
        yield tag("span", words(f"{path}:{first.line}"), class_="row file")
        lines = sources.get(path, {})
        shown = set()
        for span, _, main in here:
            around = 2 if main else 0
            shown |= {number for number in range(span.line - around, span.line + around + 1) if number in lines}
        shown |= {span.line for span, _, _ in here}
        before = None
        for number in sorted(shown):
            if before is not None and number > before + 1:
                yield tag("span", tag("span", "⋯", class_="no"), class_="row")
            before = number
            marks = [place for place in here if place[0].line == number]
            yield _row(number, lines.get(number, ""), marks[0] if marks else None)
            for _, said, main in marks:
                if said:
                    yield tag("span", words(said), class_="row said" if main else "row said other")


def _row(number: int, line: str, place: tuple[Span, str, bool] | None) -> str:
    text = source(line)
    if place is not None and line:
        span, _, main = place
        end = span.end_column - 1 if span.end_line == span.line else len(line)
        start, end = min(span.column - 1, len(line)), min(max(end, span.column), len(line))
        marked = tag("mark", source(line[start:end]), class_=None if main else "other")
        text = source(line[:start]) + marked + source(line[end:])
    return tag("span", tag("span", str(number), class_="no"), text, class_="row")


# Pictures


def _cycle(record: RunRecord) -> str:
    pictures = []
    kinds = {moment.kind for moment in record.moments}
    for optimizer in record.optimizers[:6]:
        picture = run_drawings.cycle(record, optimizer.index)
        if picture:
            title = tag("h3", words(optimizer.label)) if len(record.optimizers) > 1 else ""
            pictures.append(tag("div", title, picture))
    if not pictures:
        return ""
    key = "".join(tag("span", tag("i", class_=f"kind-{kind}"), kind) for kind in run_cycle.KINDS if kind in kinds)
    lead = (
        "What happened to the gradients, from left to right, step by step. A correct iteration clears them, computes "
        "them in backward and uses them in a step. A ring marks the line of a finding."
    )
    return _section(
        "The gradient cycle",
        lead,
        tag("div", tag("div", *pictures, class_="cycles"), tag("p", key, class_="key"), class_="card"),
    )


def _numbers(record: RunRecord) -> str:
    parts = []
    for name, points in list(run_series.losses(record).items())[:_LOSSES]:
        parts.append(tag("div", tag("h3", words(name)), run_drawings.curve(name, points), class_="card"))
    grids = run_series.grids(record)
    narrow = all(len(grid.steps) <= _NARROW for grid in grids)
    pictures = []
    for grid in grids:
        title = tag("h3", words(grid.title[:1].upper() + grid.title[1:]))
        picture = run_drawings.heat(grid, 360) if narrow else run_drawings.heat(grid)
        pictures.append(tag("div", title, picture, class_="card"))
    if pictures:
        parts.append(tag("div", *pictures, class_="pair") if narrow else "".join(pictures))
    if not parts:
        return ""
    lead = (
        "Read at some steps only; columns are those steps. The stronger the colour the larger, on a logarithmic scale; "
        "an empty box is zero, and red is not finite."
    )
    return _section("Numbers", lead, *parts)


def _map(record: RunRecord) -> str:
    picture = run_drawings.holders(record)
    if not picture:
        return ""
    lead = "The tensors on the left, as the program calls them, and the optimizers that hold them."
    return _section("Who holds what", lead, tag("div", picture, class_="card"))


# What was watched


def _watched(record: RunRecord) -> str:
    parts = []
    if record.optimizers:
        names = ["optimizer", "class", "steps", "checked", "parameters", "built at"]
        head = tag(
            "tr", *(tag("th", name, class_="n" if 2 <= index <= 4 else None) for index, name in enumerate(names))
        )
        rows = []
        for optimizer in record.optimizers:
            numbers = (optimizer.steps, optimizer.checked, len(optimizer.parameters))
            rows.append(
                tag(
                    "tr",
                    tag("td", tag("code", words(optimizer.label))),
                    tag("td", words(optimizer.kind)),
                    *(tag("td", str(number), class_="n") for number in numbers),
                    tag("td", words(optimizer.built or "")),
                )
            )
        checked = " · ".join(f"{number} {what}" for what, number in record.checked.items())
        told = tag("p", words(f"Checked: {checked}"), class_="key") if checked else ""
        parts.append(tag("div", tag("table", head, *rows), told, class_="card"))
    facts: list[tuple[str, list[str]]] = [
        ("Models", models_of(record)),
        ("Held by no optimizer", [listed(record.missing)] if record.missing else []),
        ("Where the watcher was blind", blind_spots(record)),
        ("What went wrong inside gradlint (please report it)", list(dict.fromkeys(record.problems))),
    ]
    for title, lines in facts:
        if lines:
            items = "".join(tag("li", prose(line)) for line in lines)
            parts.append(tag("div", tag("h3", title), tag("ul", items), class_="card"))
    return _section("What was watched", "", *parts) if parts else ""
