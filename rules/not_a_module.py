"""GL318: a class with layers is a part of a network but does not derive from nn.Module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import PartNoModule
from gradcheck_lint.source.events import SetAttribute
from gradcheck_lint.source.natures import Tensor, made_by, requires_grad
from gradcheck_lint.source.place import Place, name_of
from gradcheck_lint.source.values import Value, only, options

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

_MAKES = re.compile(r"self\.\w+\s*(?::[^=\n]+)?=\s*[^\n#]*?\b[A-Z]\w*\(|self\.\w+\s*=\s*\(?\n")
_FOREIGN = re.compile(
    r"optim|requires_grad|no_grad|inference_mode|\.eval\(|detach|pretrained|load_state|state_dict|parameters\("
    r"|register|_modules\b|deepcopy|hub\.load|\b__getattr__|\bopt\b"
)
"""Text of a class whose layers are not just trained with a network: they are frozen, or it cares for them itself."""


class NotAModule(Rule):
    code = "GL318"
    slug = "not-a-module"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (PartNoModule,)
    triggers = r"\bdef (?:forward|__call__)\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.ownership import classes, extended, owners

        written = classes(facts.home.text).get(facts.name)
        if written is None or re.search(r"nn\.|[Mm]odule|[Ll]ayer\b|Sequential|Function|Dataset|Protocol", written):
            return
        if not _MAKES.search(facts.text) or _FOREIGN.search(facts.text) or not _becomes_a_part(facts):
            return
        if extended(facts) or facts.cls is None or not facts.cls.closed or facts.is_module:
            return
        if _FOREIGN.search(facts.inherited):
            return
        layers = _layers(facts)
        found = next(((a, e) for a, e in owners(facts) if "try" not in e.context), None) if layers else None
        if found is None or any(_reached_for(facts, attr) for attr in layers):
            return
        attr, event = found
        container = not attr
        report(
            name_of(Place(facts.home.chunk, facts.cls.node)),
            f"`{facts.name}` has layers but is not a module",
            label=f"this class owns `self.{next(iter(layers))}` and does not derive from `nn.Module`",
            why="torch refuses to put an object of it in a container of modules"
            if container
            else "the network that owns an object of it neither trains nor saves its layers",
            help=f"derive `{facts.name}` from `nn.Module`, and call `super().__init__()` first in its `__init__`",
            note="layers that other code trains and saves on purpose may stay hidden",
            related=[("it becomes part of a module here", event.place)],
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, PartNoModule)
        name, where = sighting.holder, sighting.attribute
        report(
            f"`{name}` has layers but is not a module",
            site=sighting.made or sighting.built,
            label=f"`{where}` of `{sighting.owner}` is none: {told(sighting.names)} got gradients",
            why="the network that owns an object of it neither trains nor saves its layers",
            help=f"derive `{name}` from `nn.Module`, and call `super().__init__()` first in its `__init__`",
            note="layers that other code trains and saves on purpose may stay hidden",
            related=[("the optimizer is built here", sighting.built), ("steps here", sighting.site)],
            confidence=Confidence.HIGH if sighting.fresh else Confidence.MEDIUM,
            subject=where,
        )


def _becomes_a_part(facts: ClassFacts) -> bool:
    """Whether some text keeps an object of it in an attribute, a container or an argument."""
    name = re.escape(facts.name)
    kept = re.compile(rf"self\.\w+\s*=\s*{name}\(|[(\[,]\s*{name}\(")
    return any(kept.search(text) for text in facts.elsewhere())


def _layers(facts: ClassFacts) -> list[str]:
    """The attributes with layers or parameters that objects of the class make themselves."""
    names: dict[str, None] = {}
    for event in facts.made.events(SetAttribute):
        if event.concerns(facts.instance) and any(_weighty(facts, o) for o in options(event.value)):
            names[event.attr] = None
    return list(names)


def _weighty(facts: ClassFacts, value: Value) -> bool:
    from gradcheck_lint.facts.classes import has_weights, made_modules

    tensor = only(value, Tensor)
    if tensor is not None:
        return made_by(tensor) == "Parameter" and requires_grad(tensor) is True
    return any(t.place is not None and has_weights(facts.machine, t) for t in made_modules(value))


def _reached_for(facts: ClassFacts, attr: str) -> bool:
    """Whether code of the project hands the layers of an object on, to be registered or trained."""
    line = rf"\.\w+\.{attr}\b[^\n]*parameters\(|self\.\w+\s*=\s*[\w.]+\.\w+\.{attr}\s*$|\.{attr}\.parameters\("
    return any(re.search(line, text, re.MULTILINE) for text in facts.elsewhere())
