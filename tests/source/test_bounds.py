"""What bounds the work that a file can cause: one test for each mechanism, which counts and does not time."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint.finding import Severity
from gradcheck_lint.laws.cycle import BREACHES
from gradcheck_lint.result import Extent
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import engine, limits
from gradcheck_lint.source.breach import Breach
from gradcheck_lint.source.deps import depends, united
from gradcheck_lint.source.effort import Allowance, Purse, Stop, meter, spend
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Assign, Build, BuildOptimizer, Event, Step, Unknown, Zero
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import Module, Opaque, Optimizer, Pass
from gradcheck_lint.source.outline import Outline
from gradcheck_lint.source.project import Finder, Project
from gradcheck_lint.source.run import machine
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.triggers import Triggers
from gradcheck_lint.source.values import ClassValue, Constant, External, Items, Table, Thing, Value, contents, options

HEAD = """
import torch
from torch import nn, optim
model = nn.Linear(2, 1)
opt = optim.SGD(model.parameters(), lr=0.1)
"""
CYCLE = "opt.zero_grad()\nmodel(x).sum().backward()\nopt.step()\n"


class Listener(Rule):
    """Keeps the timelines that it is asked about, and the breaches."""

    code, slug, severity = "GL999", "listener", Severity.ERROR
    breaches = BREACHES

    def __init__(self) -> None:
        self.timelines: list[Timeline] = []
        self.heard: list[Breach] = []
        self.events: list[list[Event]] = []

    def on_timeline(self, timeline: Timeline, report: Any) -> None:
        self.timelines.append(copy(timeline))  # the timeline itself lets go of what is in it
        self.events.append(list(timeline.events()))

    def on_breach(self, breach: Breach, report: Any) -> None:
        self.heard.append(breach)


def lint(code: str, **others: str) -> tuple[Listener, list[tuple[str, str]], int]:
    """What a rule hears of a file, what was cut, and the work that it took."""
    listener, extent = Listener(), Extent()
    texts = {"main.py": HEAD + code, **{f"{name}.py": text for name, text in others.items()}}
    files = [SourceFile(path, Path("/nowhere") / path, text.encode()) for path, text in texts.items()]
    before = meter.spent
    analyse(files, [listener], extent=extent)
    return listener, extent.cut, meter.spent - before


def given(code: str) -> Any:
    """What the last optimizer of a program is given."""
    listener, _, _ = lint(code)
    return [e for e in listener.events[0] if isinstance(e, BuildOptimizer)][-1].given


# ---------------------------------------------------------------- the meter


def test_spending_more_than_is_allowed_stops() -> None:
    with Allowance(10):
        spend(6)
        with pytest.raises(Stop):
            spend(6)
    spend(1_000_000)  # what is around it has its own


def test_what_is_spent_inside_is_known_afterwards() -> None:
    with Allowance(10) as allowance:
        spend(4)
    assert allowance.used == 4


def test_a_purse_gives_less_and_less() -> None:
    purse = Purse(1000, 0)
    given = []
    for _ in range(3):
        with purse.allowance() as allowance:
            given.append(allowance.units)
        purse.pay(purse.all + 1)
    assert given == [1000, 1000 // limits.SHARE, 1000 // limits.LEAST_SHARE]


# ---------------------------------------------------------------- values


def test_a_value_in_itself_is_looked_into_once() -> None:
    value: Any = Items(Container.LIST, [Thing(Module(), "m")])
    for _ in range(100):
        value = Items(Container.TUPLE, [value, value])
    assert sum(isinstance(each, Thing) for each in contents(value)) == 1
    assert {thing.label for thing in depends(Items(Container.LIST, [Thing(Module(), "m")]))} == {"m"}
    before = meter.spent
    depends(value)
    assert meter.spent - before < 100


def test_a_list_that_holds_itself_ends() -> None:
    value = Items(Container.LIST, [])
    value.items.append(value)
    assert list(contents(value)) == [value]
    assert depends(value) == frozenset()


def test_doubled_lists_stop_growing() -> None:
    value = given("l = [model.weight]\n" + "l = l + l\n" * 40 + "other = optim.SGD(l, lr=0.1)\n")
    assert len(value.items) == limits.ITEMS
    assert not value.complete


def test_starred_extended_and_merged_ones_stop_too() -> None:
    value = given("l = [model.weight]\n" + "l = [*l, *l]\n" * 40 + "other = optim.SGD(l, lr=0.1)\n")
    assert len(value.items) <= 2 * limits.ITEMS
    value = given("l = [model.weight]\n" + "l.extend(l)\n" * 40 + "other = optim.SGD(l, lr=0.1)\n")
    assert len(value.items) <= limits.ITEMS + 1
    assert not value.complete
    many = "".join(f"d = {{**d, 'k{i}': model}}\n" for i in range(limits.ITEMS + 50))
    value = given("d = {}\n" + many + "other = optim.SGD([d], lr=0.1)\n")
    table = value.items[0]
    assert isinstance(table, Table)
    assert len(table.entries) <= limits.ITEMS + 1
    assert not table.complete


def test_a_list_that_is_written_down_has_all_its_items() -> None:
    count = 2 * limits.ITEMS
    value = given("other = optim.SGD([" + "model.weight, " * count + "], lr=0.1)\n")
    assert len(value.items) == count
    assert value.complete


def test_dependencies_are_shared_and_of_a_size() -> None:
    one, two = frozenset({Thing(Module(), "a")}), frozenset({Thing(Module(), "b")})
    both = united(one, two)
    assert united(both, one) is both
    assert united(one, both) is both
    net = Thing(Optimizer(), "o")
    many = frozenset(Thing(Pass(net, frozenset()), str(i)) for i in range(3 * limits.DEPENDENCIES))
    kept = united(frozenset({net}), many)
    assert len(kept) == limits.DEPENDENCIES
    assert net in kept


def test_a_chain_of_attributes_keeps_its_root() -> None:
    first = thing = Thing(Module(), "net")
    for _ in range(5 * limits.PARENTS):
        thing = Thing(Opaque(), "next", parent=(thing, "next"))
    steps = 0
    while thing.parent is not None:
        thing, steps = thing.parent[0], steps + 1
    assert thing is first
    assert steps <= limits.PARENTS


def test_of_a_long_lineage_the_far_end_is_unknown() -> None:
    home: Any = None
    node: Any = None
    cls = ClassValue(node, home, None, [External("torch.nn.Module")])
    for _ in range(3 * limits.LINEAGE):
        cls = ClassValue(node, home, None, [cls])
    assert len(list(cls.lineage())) == limits.LINEAGE + 1
    assert not cls.closed


def test_of_a_long_literal_of_constants_the_beginning_is_kept() -> None:
    listener, _, _ = lint("data = [" + "1, " * 5_000 + "]\n" + CYCLE)
    event = next(e for e in listener.events[0] if isinstance(e, Assign) and isinstance(e.value, Items))
    value = event.value
    assert len(value.items) == limits.LITERAL + 1
    assert not value.complete
    assert isinstance(options(value.items[0])[0], Constant)


# ---------------------------------------------------------------- running code


def nest(depth: int) -> str:
    """Loops in one another, each of which changes what a name stands for."""
    loops = "".join(f"{' ' * d}for i{d} in c:\n{' ' * (d + 1)}m{d} = nn.Linear({d}, 1)\n" for d in range(depth))
    return "".join(f"m{d} = None\n" for d in range(depth)) + loops + f"{' ' * depth}opt.step()\n"


def test_loops_in_one_another_do_not_double_the_work_with_each() -> None:
    _, cut, twelve = lint(nest(12))
    _, more_cut, eighteen = lint(nest(18))
    assert not cut
    assert not more_cut
    assert eighteen < 4 * twelve


def test_a_loop_deep_inside_still_hears_of_what_a_later_round_brings() -> None:
    code = "o = optim.Adam(model.parameters())\n" + "".join(f"{' ' * d}for i{d} in c:\n" for d in range(8))
    listener, _, _ = lint(code + " " * 8 + "o.step()\n" + " " * 8 + "o = opt\n")
    assert [len(options(e.subject)) for e in listener.events[0] if isinstance(e, Step)] == [2]


def test_long_elif_chains_are_one_branch() -> None:
    def chain(count: int) -> str:
        return "if c:\n  pass\n" + "".join(f"elif c == {i}:\n  opt.step()\n" for i in range(count)) + CYCLE

    listener, _, less = lint(chain(200))
    assert sum(isinstance(e, Step) for e in listener.events[0]) == 201
    assert max(len(around) for _, around in listener.timelines[0].located()) == 2
    _, _, more = lint(chain(800))
    assert more < 5 * less


def test_functions_that_call_two_others_are_followed_in_proportion_to_their_text() -> None:
    def calls(count: int) -> str:
        first = "def f0():\n  opt.step()\n"
        return first + "".join(f"def f{i}():\n  f{i - 1}()\n  f{i - 1}()\n" for i in range(1, count))

    _, _, less = lint(calls(400))
    _, cut, more = lint(calls(1600))
    assert more < 5 * less
    assert cut


# ---------------------------------------------------------------- paths


def test_nested_loops_are_gone_round_once_for_the_same_states() -> None:
    def loops(depth: int) -> str:
        head = "".join(f"{' ' * d}for i{d} in c:\n" for d in range(depth))
        return head + "".join(f"{' ' * depth}{line}\n" for line in CYCLE.splitlines())

    _, _, less = lint(loops(8))
    _, _, more = lint(loops(18))
    assert more < 5 * less


def test_states_that_differ_in_their_history_only_are_not_kept_without_end() -> None:
    def steps(count: int) -> str:
        line = "  if a{i}: model(x).sum().backward()\n  if b{i}: opt.zero_grad()\n  if c{i}: opt.step()\n"
        return "for x in data:\n" + "".join(line.format(i=i) for i in range(count))

    _, _, less = lint(steps(20))
    _, _, more = lint(steps(80))
    assert more < 7 * less


def test_a_mistake_is_found_in_spite_of_many_states() -> None:
    body = "".join(f"  if a{i}: model(x).sum().backward()\n" for i in range(100))
    listener, _, _ = lint(f"for x in data:\n{body}  model(x).sum().backward()\n  opt.step()\n")
    assert [b.kind for b in listener.heard] == ["stale-step"]


# ---------------------------------------------------------------- the guard


def many(count: int) -> str:
    return "".join(f"for x{i} in data:\n  model(x{i}).sum().backward()\n  opt.step()\n" for i in range(count))


def test_what_is_too_much_is_said_and_what_came_before_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut, _ = lint(many(40))
    assert not cut
    monkeypatch.setattr(limits, "FOLLOW_WORK", 350)
    monkeypatch.setattr(limits, "FOLLOW_EVENT", 0)
    part, cut, _ = lint(many(40))
    assert cut == [("main.py", "")]
    assert 0 < len(part.heard) < len(whole.heard)
    assert [b.event.place.span for b in part.heard] == [b.event.place.span for b in whole.heard[: len(part.heard)]]
    assert not any(b.certain for b in part.heard)


def test_code_that_is_too_much_to_interpret_is_judged_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def train():\n" + "".join(f"  {line}\n" for line in many(40).splitlines())
    whole, cut, _ = lint(code)
    assert not cut
    monkeypatch.setattr(limits, "ENTRY_WORK", 300)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    part, cut, _ = lint(code)
    assert ("main.py", "train") in cut
    assert 0 < len(part.heard) < len(whole.heard)
    assert all(b.certain for b in part.heard[:-1])  # nothing behind the cut can change what came before it


def test_what_was_at_hand_where_the_work_was_cut_makes_it_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that turns the cycle may be called by what was not followed, and nobody looks at that any more."""
    helper = "  def clear():\n    opt.zero_grad()\n  table = {'clear': clear}\n"
    loop = "  for x in data:\n    model(x).sum().backward()\n    opt.step()\n"
    code = "def train(table):\n" + helper + loop + "  f(1)\n" * 200
    monkeypatch.setattr(limits, "ENTRY_WORK", 500)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    part, cut, _ = lint(code)
    assert ("main.py", "train") in cut
    assert not any(b.certain for b in part.heard)
    part, cut, _ = lint(code.replace(helper, ""))
    assert ("main.py", "train") in cut
    assert [b.certain for b in part.heard] == [True]


def test_a_loop_in_a_loop_that_was_cut_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the cut may clear before the loop inside begins anew."""
    loop = "    for x in data:\n      model(x).sum().backward()\n      opt.step()\n"
    code = "def train():\n  for epoch in range(9):\n" + loop + "    f(1)\n" * 200
    monkeypatch.setattr(limits, "ENTRY_WORK", 500)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    part, cut, _ = lint(code)
    assert ("main.py", "train") in cut
    assert not any(b.certain for b in part.heard)


def test_a_long_function_is_no_bomb() -> None:
    loop = "  for x in data:\n    model(x).sum().backward()\n    opt.step()\n"
    plain = "".join(f"  a{i} = y + {i}\n" for i in range(13_000))
    for code in (plain + loop, loop + plain):
        listener, cut, _ = lint("def train(y):\n" + code)
        assert not cut
        assert [b.certain for b in listener.heard] == [True]
    many = "".join(f"def f{i}(y):\n  return y + {i}\n" for i in range(13_000))
    listener, cut, _ = lint(many + "def train():\n" + loop)
    assert not cut
    assert [b.certain for b in listener.heard] == [True]


def test_code_that_is_cut_inside_of_a_loop_is_not_taken_to_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind the cut may clear."""
    rest = "  f(x)\n" * 200 + "  opt.zero_grad()\n"
    code = "for x in data:\n  model(x).sum().backward()\n  opt.step()\n" + rest
    monkeypatch.setattr(limits, "ENTRY_WORK", 1200)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    part, cut, _ = lint(code)
    assert cut == [("main.py", "")]
    assert any(isinstance(e, Step) for e in part.events[0])
    assert not part.heard


def test_a_cut_in_the_start_of_a_class_costs_no_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    start = "".join(f"    self.l{i} = nn.Linear(2, 2)\n" for i in range(200))
    code = f"class T:\n  def __init__(self):\n{start}  def go(self):\n    self.opt.step()\n" + many(3)
    monkeypatch.setattr(limits, "ENTRY_WORK", 400)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    part, cut, _ = lint(code)
    assert ("main.py", "T.go") in cut or ("main.py", "T.__init__") in cut
    assert part.heard


def test_methods_of_a_class_whose_start_is_cut_are_looked_at_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    start = "    self.opt = optim.SGD(model.parameters(), 0.1)\n" + "    f(1)\n" * 400
    loop = "    for x in data:\n      model(x).sum().backward()\n      self.opt.step()\n"
    methods = "".join(f"  def {name}(self):\n{loop}" for name in ("go", "run"))
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    _, cut, _ = lint(f"class T:\n  def __init__(self):\n{start}{methods}")
    assert not cut
    monkeypatch.setattr(limits, "ENTRY_WORK", 1000)
    part, cut, _ = lint(f"class T:\n  def __init__(self):\n{start}{methods}")
    assert [name for _, name in cut] == ["T.__init__", "T.go", "T.run"]
    assert len(part.heard) == 2
    assert not any(b.certain for b in part.heard)  # what was not looked at may hold it, and clear


def at_hand(start: str, method: str = "self.opt.zero_grad()") -> str:
    """Training code that has a method of a class at hand, of which it has no object."""
    train = "  opt = optim.SGD(model.parameters(), 0.1)\n  table = [T.go]\n"
    train += "  for x in data:\n    model(x).sum().backward()\n    opt.step()\n"
    return f"def train():\n{train}class T:\n  def __init__(self):\n{start}  def go(self):\n    {method}\n"


def test_a_method_at_hand_of_a_class_whose_start_is_cut_may_do_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    monkeypatch.setattr(limits, "ENTRY_WORK", 1000)
    for rest, method in (
        ("    self.opt = optim.SGD(model.parameters(), 0.1)\n", "self.opt.zero_grad()"),
        ("    self.all = [model.zero_grad]\n", "[each() for each in self.all]"),
    ):
        listener, _, _ = lint(at_hand("    f(1)\n" * 400 + rest, method))
        assert [breach.certain for breach in listener.heard] == [False]


def test_how_an_object_starts_does_not_depend_on_who_asks_first() -> None:
    listener, _, _ = lint(at_hand("    self.opt = optim.SGD(model.parameters(), 0.1)\n"))
    started = [timeline for timeline in listener.timelines if timeline.name == "T.go"]
    assert [len(list(timeline.events(Build))) for timeline in started] == [1]


# ---------------------------------------------------------------- what is let go of, and what is not gone over again


def test_a_name_costs_as_much_as_there_are_arms_that_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Value] = []

    def counting(a: Value, b: Value) -> Value:
        asked.append(a)
        return join(a, b)

    monkeypatch.setattr(machine, "join", counting)
    lint("try:\n  opt.step()\n" + "".join(f"except E{i}:\n  x{i} = model({i})\n" for i in range(100)))
    assert len(asked) <= 300


def test_a_name_that_some_arms_write_is_in_the_others_what_it_was() -> None:
    arms = "except A:\n  pass\nexcept B:\n  m = nn.Linear(3, 3)\nexcept C:\n  pass\n"
    made = given("m = model\ntry:\n  opt.step()\n" + arms + "opt = optim.SGD(m.parameters(), 0.1)\n")
    assert len({thing.what.of for thing in options(made)}) == 2


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """The machines that are made."""
    made: list[Machine] = []

    def build(*parts: Any) -> Machine:
        made.append(Machine(*parts))
        return made[-1]

    monkeypatch.setattr(engine, "Machine", build)
    return made


def test_the_names_of_a_function_that_is_over_are_let_go(machines: list[Machine]) -> None:
    lint("def f(o):\n  a = o\n  a.step()\nfor x in data:\n  f(opt)\n")
    assert "a" not in {name for _, name in machines[0].store}
    assert list(machines[0].parents.values()) == [None]


def test_what_is_defined_in_a_function_can_read_its_names_when_that_is_over(machines: list[Machine]) -> None:
    listener, _, _ = lint("def f(o):\n  a = o\n  def g():\n    a.zero_grad()\n  return g\nh = f(opt)\nh()\n")
    assert [event.subject.label for event in listener.events[0] if isinstance(event, Zero)] == ["opt"]


def test_parts_of_what_an_entry_point_has_made_are_let_go(machines: list[Machine]) -> None:
    method = "class T:\n  def __init__(self):\n    self.net = make()\n  def go(self):\n    self.net.kept.step()\n"
    lint(method + "def main(a):\n  opt.step()\n  print(a.passing)\n")
    parts = {name for _, name in machines[0].store}
    assert ".kept" in parts  # other methods will come by it
    assert ".passing" not in parts


def test_a_long_function_is_not_followed_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LENGTHY", 50)
    callers = "".join(f"def main{i}():\n  long()\n" for i in range(5))
    _, cut, _ = lint("def long():\n" + "  opt.step()\n" * 60 + callers)
    assert [name for _, name in cut] == ["main2", "main3", "main4"]


def test_a_costly_function_that_only_calls_unseen_code_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAVY", 50)
    callers = "".join(f"def main{i}(o):\n  costly(o)\n" for i in range(5))
    for line, missed in (("o.zero_grad()", 4), ("trainer.step(o)", 0)):
        listener, cut, _ = lint("def costly(o):\n" + f"  {line}\n" * 60 + callers)
        assert len(cut) == missed
        last = [timeline for timeline in listener.timelines if timeline.name == "main4"]
        assert any(isinstance(event, Unknown) for event in last[0].events())


def test_a_rule_that_takes_too_much_costs_only_its_own_findings() -> None:
    class Greedy(Listener):
        code = "GL998"

        def on_timeline(self, timeline: Timeline, report: Any) -> None:
            while True:
                list(timeline.events())

    greedy, listener, extent = Greedy(), Listener(), Extent()
    file = SourceFile("main.py", Path("/nowhere/main.py"), (HEAD + many(2)).encode())
    analyse([file], [greedy, listener], extent=extent)
    assert extent.cut == [("main.py", "")]
    assert listener.timelines
    assert len(listener.heard) == 2


# ---------------------------------------------------------------- files


def test_a_huge_file_that_is_only_imported_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "huge.py").write_text("x = 1\n" * (limits.LARGEST_IMPORTED // 6 + 1), encoding="utf-8")
    project = Project(Triggers(["step"]), Finder([str(tmp_path)]), lambda path, error: None)
    assert project.read(str(tmp_path / "small.py")) is not None
    assert project.read(str(tmp_path / "huge.py")) is None


def test_what_can_be_made_again_is_let_go() -> None:
    outline = Outline("def f():\n    print(1)\n    return g()\n")
    code, text = list(outline.code), outline.definitions[0].text
    outline.let_go()
    assert not {"lines", "code", "skeleton"} & set(vars(outline))
    assert list(outline.code) == code
    assert outline.definitions[0].text == text
