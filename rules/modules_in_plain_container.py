"""GL308: layers in a plain list, tuple or dictionary, which the module that owns them does not register."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import LayersUnregistered
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Freeze, Register, SetAttribute, SetMode
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import Constant, Items, Table, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

_ASSIGNED = r"self\.(\w+)(?:\s*:[^=\n]+)?\s*=\s*(?:(?:\[|\{|\(|list\(|tuple\(|dict\()|self\.(\w+)\()"
_FILLED = r"\.(?:append|extend|insert|update|add)\(|\s*\+=|\[[^\]\n]*\]\s*=(?!=)"
_ELSEWHERE = re.compile(r"add_module|register_module|\b_modules\b|\b_parameters\b|__setattr__")
_OWN = re.compile(r"def (?:named_)?(?:parameters|children|modules)\(|def (?:_apply|state_dict)\(")


class ModulesInPlainContainer(Rule):
    code = "GL308"
    slug = "modules-in-plain-container"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    watches = (LayersUnregistered,)
    triggers = _ASSIGNED

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.classes import has_weights, made_modules, reached

        names = _suspects(facts.text)
        if not names or _ELSEWHERE.search(facts.inherited) or not facts.is_module or _OWN.search(facts.inherited):
            return
        registered: set[Thing] = set()
        for event in facts.made.events(SetAttribute, Register):
            plain = isinstance(event.value, (Items, Table)) or _measured(
                event.source if isinstance(event, SetAttribute) else None
            )
            if event.concerns(facts.instance) and not plain:
                registered |= reached(event.value)
        touched = {t for e in facts.made.events(Freeze, SetMode) for t in reached(e.subject)}
        hidden: dict[tuple[bool, Confidence], list[_Hidden]] = {}  # one mistake for a class and a cause
        for name in names:
            held = [o for o in options(facts.attribute(name)) if not _nothing(o)]
            if not held or not all(isinstance(o, (Items, Table)) for o in held):
                continue
            made = [t for o in held for t in made_modules(o)]
            layers = [t for t in made if t.place is not None and has_weights(facts.machine, t, mode=True)]
            if not layers or any(t in registered or t in touched for t in made) or _handed_on(facts, name):
                continue
            assigned = _assignment(facts, name)
            if assigned is None:
                continue
            kind = "dictionary" if isinstance(held[0], Table) else "list"
            if isinstance(held[0], Items):
                kind = held[0].kind.value
            weighty = any(has_weights(facts.machine, t) for t in layers)
            confidence = Confidence.MEDIUM if _shared(facts, name) or _lent(facts, name) else Confidence.HIGH
            one = _Hidden(name, kind, assigned, _fix(facts, name, held, assigned))
            hidden.setdefault((weighty, confidence), []).append(one)
        for (weighty, confidence), found in hidden.items():
            _tell(facts, found, weighty, confidence, report)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LayersUnregistered)
        container = "nn.ModuleDict" if sighting.container == "dict" else "nn.ModuleList"
        first, *more = sighting.attributes
        names = f"`{first}`" + (
            f" and {len(more)} more like it" if len(more) > 1 else f" and `{more[0]}`" if more else ""
        )
        report(
            f"layers in a plain {sighting.container} are not registered",
            site=sighting.made or sighting.built,
            label=f"the layers in {names} of `{sighting.owner}` are not among the parameters: {told(sighting.names)}",
            why="they got gradients in every backward, and no optimizer moves them",
            help=f"keep them in an `{container}`",
            note="a part that is hidden on purpose, such as a frozen teacher, may stay in a list",
            related=[
                *(("nor are those in this one", place) for place in sighting.beside),
                ("the optimizer is built here", sighting.built),
                ("steps here", sighting.site),
            ],
            subject=sighting.owner,
        )


class _Hidden(NamedTuple):
    """An attribute that holds layers and does not register them: its name, what it is, where it gets it."""

    name: str
    kind: str
    assigned: SetAttribute
    fix: Fix | None


def _tell(facts: ClassFacts, found: list[_Hidden], weighty: bool, confidence: Confidence, report: Report) -> None:
    first, *others = found
    names = f"`self.{first.name}`"
    if others:
        names += f" and `self.{others[0].name}`" if len(others) == 1 else f" and {len(others)} more like it"
    containers = " or ".join(dict.fromkeys(_CONTAINERS.get(one.kind, "`nn.ModuleList`") for one in found))
    be = ("they are", "they go on") if others else ("it is", "it goes on")
    report(
        first.assigned.statement,
        f"layers in a plain {first.kind} are not registered",
        label=f"`{facts.name}` does not see the layers in this {first.kind}",
        why=f"`parameters()` leaves out {names}, so {be[0]} neither trained nor saved"
        if weighty
        else f"`eval()` does not reach {names}, so {be[1]} as in training",
        help=f"keep them in an {containers}",
        note="a part that is hidden on purpose, such as a frozen teacher, may stay in a list",
        related=[(f"nor those in this {one.kind}", one.assigned.statement) for one in others],
        fix=_all([one.fix for one in found if one.fix is not None]),
        confidence=confidence,
    )


_CONTAINERS = {"dictionary": "`nn.ModuleDict`"}


def _all(fixes: list[Fix]) -> Fix | None:
    """One fix that does what several do."""
    if not fixes:
        return None
    return Fix(fixes[0].title, Safety.UNSAFE, tuple(edit for fix in fixes for edit in fix.edits))


def _suspects(text: str) -> list[str]:
    """The attributes that are assigned a container which may hold what is called like a class."""
    names: dict[str, None] = {}
    for match in re.finditer(_ASSIGNED, text):
        name, method = match.groups()
        rest = text[match.end() : match.end() + 400]
        if method is not None:
            likely = _lists(text, method)
        elif rest.lstrip()[:1] in ("]", "}", ")"):
            likely = re.search(rf"self\.{name}(?:{_FILLED})", text) is not None
        else:
            likely = re.match(r"[^=#]*?(?:\b[A-Z]\w*\(|self\.\w+\()", rest) is not None
            likely = likely or re.match(r"\s*\w+\)", rest) is not None
        if likely:
            names[name] = None
    return list(names)


def _lists(text: str, method: str) -> bool:
    """Whether a method may return a list that it makes."""
    found = re.search(rf"def {method}\(.*?(?=\n    def |\Z)", text, re.DOTALL)
    if found is None:
        return False
    returned = re.findall(r"return (\w+)\s*$", found.group(), re.MULTILINE)
    return any(re.search(rf"\b{name} = \[", found.group()) for name in returned)


def _nothing(value: Value) -> bool:
    return isinstance(value, Constant) and value.value is None


def _measured(source: tree.Expression | None) -> bool:
    """Whether an expression only asks for a length or a sum: that hands nothing on."""
    return source is not None and any(
        isinstance(n, tree.Call) and tree.last_name(n.func) in ("len", "sum", "max", "min", "range")
        for n in source.walk()
    )


def _assignment(facts: ClassFacts, name: str) -> SetAttribute | None:
    for event in facts.made.events(SetAttribute):
        if event.attr == name and event.concerns(facts.instance):
            return event if isinstance(event.statement.node, tree.Assign) else None
    return None


def _handed_on(facts: ClassFacts, name: str) -> bool:
    """Whether the list is given to code that may register or train what it holds."""
    if re.search(rf"setattr\([^\n]*self\.{name}\b", facts.inherited):
        return True
    for definition in facts.definitions:
        text = definition.text
        if re.search(rf"self\.{name}\b", text) and re.search(r"\b(?:named_)?parameters\(|optim|requires_grad", text):
            return True
    line = rf"\.{name}\b[^\n]*\bparameters\(|for [^\n]*\.{name}\b[^\n]*:\n[^\n]*(?:\bparameters\(|add_module|setattr)"
    line += rf"|(?:Sequential|ModuleList|ModuleDict)\(\*{{0,2}}[\w.]*\.{name}\b"
    return any(re.search(line, text) for text in facts.elsewhere())


_TOLD = r"(?:print|len|enumerate|zip|range|reversed|iter|sum|type|str|repr|isinstance|assert)"


def _lent(facts: ClassFacts, name: str) -> bool:
    """Whether code outside of the class hands the list to a function, which may register what it holds."""
    line = rf"(?<![\w.])(?!{_TOLD}\()[\w.]+\((?:[^()\n]*,)?[ \t]*\**(?!self\.)[\w.]+\.{name}\b(?![\w.\[])"
    return any(re.search(line, text) for text in facts.elsewhere())


_USES = (
    r"(?:in |(?:len|zip|enumerate|reversed)\((?:[^()]|\([^()]*\))*?)self\.{0}\b"
    r"|self\.{0}(?:\[|\.(?:append|extend|insert|items|keys|values)\(|\s*\+?=|\s*:)|= self\.{0}\s*$"
)


def _shared(facts: ClassFacts, name: str) -> bool:
    """Whether the list is used otherwise than by walking over it, indexing it and adding to it."""
    uses = len(re.findall(rf"\bself\.{name}\b", facts.inherited))
    return uses > len(re.findall(_USES.format(name), facts.inherited, re.MULTILINE))


def _fix(facts: ClassFacts, name: str, held: list[Value], event: SetAttribute) -> Fix | None:
    """Hand the container to the one of torch, where that takes all that is in it."""
    from gradcheck_lint.facts import repair

    statement = event.statement.node
    if len(held) != 1 or not isinstance(statement, tree.Assign) or statement.value is None:
        return None
    value, content = statement.value, held[0]
    table = isinstance(content, Table)
    entries = list(content.entries.values()) if isinstance(content, Table) else getattr(content, "items", [])
    if any(not isinstance(o, Thing) or not isinstance(o.what, Module) for e in entries for o in options(e)):
        return None
    if _shared(facts, name) or not isinstance(value, (tree.Display, tree.Dict, tree.Comprehension, tree.Call)):
        return None
    if table and not _keyed(content, value):
        return None
    if isinstance(value, tree.Call) and tree.last_name(value.func) not in ("list", "tuple", "dict"):
        return None
    spelled = facts.spelled("torch.nn.ModuleDict" if table else "torch.nn.ModuleList")
    if spelled is None:
        return None
    whole, inner = event.statement.code, event.statement.chunk.code(value)
    if not whole.endswith(inner):
        return None
    empty = isinstance(value, (tree.Display, tree.Dict)) and not list(value.children())
    empty = empty or (isinstance(value, tree.Call) and not value.args)
    new = f"{spelled}()" if empty else f"{spelled}({inner})"
    edit = repair.replace(event.statement, whole.removesuffix(inner) + new)
    return Fix(f"keep the layers in `{spelled}`", Safety.UNSAFE, (edit,))


def _keyed(content: Value, value: tree.Expression) -> bool:
    """Whether the keys of a dictionary are strings that the code spells out."""
    if isinstance(value, tree.Dict) and any(k is None for k, _ in value.pairs):
        return False
    return isinstance(content, Table) and all(isinstance(k, str) for k in content.entries)
