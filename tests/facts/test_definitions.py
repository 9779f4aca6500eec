"""Rules of a pack that read with libcst: matchers and visitors, with the values and events of the analysis."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
import pytest
from libcst.metadata import ParentNodeProvider

from gradcheck_lint import registry
from gradcheck_lint.facts.definitions import DefinitionFacts
from gradcheck_lint.finding import Confidence, Finding, Fix, Safety, Severity
from gradcheck_lint.result import AnalysisError, Extent
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.edit import plan
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Zero
from gradcheck_lint.source.file import SourceFile

PACK = '''
"""XV101: gradients are set to zeros, which Adam takes for a reason to step."""

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.values import only


class ZerosKept(Rule):
    code = "XV101"
    slug = "zeros-kept"
    severity = Severity.WARNING
    fix = Safety.SAFE
    triggers = r"set_to_none"

    def on_definition(self, definition, report):
        import libcst.matchers as m

        kept = m.Arg(keyword=m.Name("set_to_none"), value=m.Name("False"))
        call = m.Call(func=m.Attribute(attr=m.Name("zero_grad")), args=[m.ZeroOrMore(), kept, m.ZeroOrMore()])
        for found in m.findall(definition.tree, call):
            owners = [only(value, Optimizer) for value in definition.values(found.func.value)]
            if not any(owners):
                continue
            argument = next(a for a in found.args if m.matches(a, kept))
            report(
                definition.place(found),
                "gradients are set to zeros",
                label="keeps them as tensors",
                why="an optimizer with momentum moves what it should leave",
                help="write `set_to_none=True`",
                fix=Fix("set them to None", Safety.SAFE, (repair.replace(definition.place(argument.value), "True"),)),
                confidence=Confidence.HIGH if all(owners) else Confidence.MEDIUM,
            )
'''

TEXT = """\
import torch

net = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(net.parameters())
optimizer.zero_grad(set_to_none=False)


class Trainer:
    def __init__(self):
        self.net = torch.nn.Linear(2, 2)
        self.optimizer = torch.optim.Adam(self.net.parameters())

    def fit(self, data):
        for x in data:
            größe = "ü"; self.optimizer.zero_grad(set_to_none=False)
            self.net(x).sum().backward()
            self.optimizer.step()

    def clear(self):
        def inner():
            self.net.zero_grad(set_to_none=False)
            return [self.optimizer.zero_grad(
                set_to_none=False
            )]

        return inner()


def either(mine, data):
    mine.zero_grad(set_to_none=False)


either(optimizer, 1)
either(net, 1)
"""


def lint(rules: Sequence[Rule], text: str = TEXT, extent: Extent | None = None) -> list[Finding]:
    file = SourceFile("a.py", Path.cwd() / "a.py", textwrap.dedent(text).encode())
    return analyse([file], rules, extent=extent)


def asked(triggers: str, hook: Callable[[DefinitionFacts, Report], None]) -> Rule:
    """A rule that does no more than call a function for each definition."""

    class Asks(Rule):
        code, slug, severity = "XV102", "asks", Severity.ERROR

        def on_definition(self, definition: DefinitionFacts, report: Report) -> None:
            hook(definition, report)

    Asks.triggers = triggers
    return Asks()


def tell(definition: DefinitionFacts, node: cst.CSTNode, report: Report, **extra: Any) -> None:
    report(definition.place(node), "found", label="here", why="why", help="help", **extra)


@pytest.fixture
def pack(tmp_path: Path) -> Rule:
    (tmp_path / "zeros_kept.py").write_text(PACK, encoding="utf-8")
    return registry.find(registry.load([tmp_path], packs=False), "XV101")


def test_a_pack_finds_a_pattern_and_asks_for_the_values(pack: Rule) -> None:
    findings = lint([pack])
    places = [(f.span.line, f.span.column, f.span.end_line, f.span.end_column, f.confidence) for f in findings]
    assert places == [
        (5, 1, 5, 39, Confidence.HIGH),
        (15, 26, 15, 69, Confidence.HIGH),
        (22, 21, 24, 14, Confidence.HIGH),
        (30, 5, 30, 38, Confidence.MEDIUM),
    ]


def test_its_fixes_are_made_where_it_says_and_safe_only_where_it_is_sure(pack: Rule) -> None:
    file = SourceFile("a.py", Path.cwd() / "a.py", TEXT.encode())
    findings = lint([pack])
    assert [f.fix.safety for f in findings if f.fix is not None] == [*[Safety.SAFE] * 3, Safety.UNSAFE]
    fixed = plan(findings, {"a.py": file}, unsafe=True).changes["a.py"].data.decode()
    lines, before = fixed.split("\n"), TEXT.split("\n")
    changed = {n: lines[n - 1] for n in range(1, len(before) + 1) if lines[n - 1] != before[n - 1]}
    assert changed == {n: before[n - 1].replace("False", "True") for n in (5, 15, 23, 30)}


def test_it_is_asked_about_what_its_triggers_match_and_nothing_else() -> None:
    met: dict[str, str] = {}

    def hook(definition: DefinitionFacts, report: Report) -> None:
        met[definition.qualname] = type(definition.tree).__name__

    lint([asked(r"set_to_none", hook)])
    assert met == {"": "Module", "Trainer.fit": "FunctionDef", "Trainer.clear": "FunctionDef", "either": "FunctionDef"}
    met.clear()
    lint([asked(r"\binner\b", hook)])
    assert met == {"Trainer.clear": "FunctionDef"}
    met.clear()
    lint([asked(r"inner", hook)], "def inner(): pass\n")  # it does not speak of torch
    assert met == {}


def test_helpers_that_do_not_speak_of_torch_are_read_where_they_are_called(tmp_path: Path) -> None:
    texts = {
        "train.py": f"from helper import freeze\n{TEXT}\nfreeze(net)\n",
        "helper.py": "def freeze(net):\n    for p in net.parameters():\n        p.requires_grad == False\n",
        "other.py": "def freeze(net):\n    for p in net.parameters():\n        p.requires_grad == False\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    given = [SourceFile(name, tmp_path / name, text.encode()) for name, text in texts.items()]
    found = analyse(given, [registry.find(registry.load(packs=False), "GL313")])
    assert [(f.span.path, f.span.line, f.fix is not None) for f in found] == [("helper.py", 3, True)]


def test_values_and_events_are_those_of_each_time() -> None:
    values: list[str] = []
    events: list[str] = []

    def hook(definition: DefinitionFacts, report: Report) -> None:
        for call in m.findall(definition.tree, m.Call(func=m.Attribute(attr=m.Name("zero_grad")))):
            owner = cst.ensure_type(cst.ensure_type(call, cst.Call).func, cst.Attribute).value
            values.extend(str(value) for value in definition.values(owner))
            for event in definition.events(call):
                assert isinstance(event, Zero)
                events.append(str(event.subject))
                assert event.place.concrete is call

    lint([asked(r"mine\.zero_grad", hook)])
    assert len(values) == len(events) == 2
    assert values == events
    values.clear()
    lint([asked(r"return 1", hook)], f"{TEXT}\ndef unused(a):\n    return 1\n    a.zero_grad()\n")
    assert values == []  # nothing goes there


def test_a_visitor_gets_the_metadata_that_it_declares() -> None:
    class Alone(m.MatcherDecoratableVisitor):
        METADATA_DEPENDENCIES = (ParentNodeProvider,)

        def __init__(self, definition: DefinitionFacts, report: Report) -> None:
            super().__init__()
            self.definition, self.report = definition, report

        @m.call_if_not_inside(m.For())
        @m.visit(m.Call(func=m.Attribute(attr=m.Name("zero_grad"))))
        def cleared(self, node: cst.Call) -> None:
            if m.matches(self.get_metadata(ParentNodeProvider, node), m.Expr()):
                tell(self.definition, node, self.report)

    findings = lint([asked("set_to_none", lambda definition, report: definition.visit(Alone(definition, report)))])
    assert [f.span.line for f in findings] == [5, 21, 30]


def test_a_statement_that_is_found_has_a_place_of_its_own() -> None:
    def hook(definition: DefinitionFacts, report: Report) -> None:
        from gradcheck_lint.facts import repair

        for node in m.findall(definition.tree, m.Return()):
            where = repair.stand(definition.place(node))
            assert where is not None
            edit = repair.insert_before(where, "pass")
            tell(definition, node, report, fix=Fix("say so", Safety.SAFE, (edit,)))

    [first, second] = lint([asked(r"\binner\b", hook)])
    assert (first.span.line, first.span.end_line, second.span.line) == (22, 24, 26)
    assert first.fix is not None
    assert first.fix.edits[0].text == "            pass\n"


def test_the_trees_of_a_definition_are_let_go_of_when_all_were_asked() -> None:
    met: list[DefinitionFacts] = []
    lint([asked("optimizer", lambda definition, report: met.append(definition)) for _ in range(2)])
    assert len(met) > 2
    assert not any({"module", "wrapper", "blocks"} & vars(definition.chunk).keys() for definition in met)


def test_an_error_costs_the_rule_on_that_file_and_nothing_else(pack: Rule) -> None:
    def hook(definition: DefinitionFacts, report: Report) -> None:
        tell(definition, next(iter(m.findall(definition.tree, m.Call()))), report)
        if definition.home.path == "a.py":
            raise KeyError("given")

    files = [SourceFile(name, Path.cwd() / name, TEXT.encode()) for name in ("a.py", "b.py")]
    with pytest.raises(AnalysisError) as caught:
        analyse(files, [asked("größe", lambda definition, report: None), asked(r"optimizer\.step", hook), pack])
    assert [(p.path, p.message.partition(" (")[0]) for p in caught.value.problems] == [("a.py", "KeyError: 'given'")]
    codes = [(f.span.path, f.code) for f in caught.value.findings]
    assert codes.count(("a.py", "XV101")) == codes.count(("b.py", "XV101")) == 4
    assert codes.count(("b.py", "XV102")) == 1


def test_work_without_end_is_cut_short_and_told(pack: Rule) -> None:
    def hook(definition: DefinitionFacts, report: Report) -> None:
        [call] = m.findall(definition.tree, m.Call(func=m.Attribute(attr=m.Name("step"))))
        while True:
            definition.events(call)

    extent = Extent()
    assert len(lint([asked(r"optimizer\.step", hook), pack], extent=extent)) == 4
    assert extent.cut == [("a.py", "Trainer.fit")]


def test_what_only_python_reads_is_not_looked_at_and_told(pack: Rule) -> None:
    odd = "def odd(mine):\n    if mine:\n\t    optimizer.zero_grad(set_to_none=False)\n    mine.step()\n"
    extent = Extent()
    assert len(lint([pack], TEXT + odd, extent)) == 4
    assert extent.cut == [("a.py", "odd")]


def test_libcst_is_loaded_only_where_a_trigger_matches(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gradcheck_lint import registry\n"
        "from gradcheck_lint.source.engine import analyse; from gradcheck_lint.source.file import SourceFile\n"
        "rules = registry.load(packs=False); text = Path('a.py').read_bytes()\n"
        "found = analyse([SourceFile('a.py', Path('a.py').absolute(), text)], rules, known=rules)\n"
        "print(len(found), 'libcst' in sys.modules)"
    )
    for text, told in ((TEXT, "0 False"), (f"{TEXT}assert net.weight.requires_grad == True\n", "0 True")):
        (tmp_path / "a.py").write_text(text, encoding="utf-8")
        path = f"{Path(registry.__file__).parents[1]}"
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {program}"],
            cwd=tmp_path, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.stdout.strip() == told, done.stderr
