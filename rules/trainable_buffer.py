"""GL317: something that should learn is registered as a buffer, which no optimizer gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.holding import BufferTrained
from gradcheck_lint.source.events import Register, SetAttribute
from gradcheck_lint.source.natures import Opaque, Tensor, made_by, requires_grad
from gradcheck_lint.source.values import Constant, Thing, Value, only, options

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event

_LEARNS = re.compile(r"\bParameter\(|requires_grad\s*=\s*True|requires_grad_\(")
_INITIALISED = r"\b(?:xavier|kaiming|glorot|he)_\w*\(\s*self\.{0}\b"
_MULTIPLIED = r"\blinear\([^\n]*self\.{0}\b|@ *self\.{0}\b|matmul\([^\n]*self\.{0}\b"
_WRITTEN = r"self\.{0}(?:\.data)?(?:\[[^\n]*\])? *[-+*/]?=(?!=)|self\.{0}(?:\.data)?\.\w+_\("
_BUFFERS = re.compile(r"\bbuffers\(|named_buffers\(")


class TrainableBuffer(Rule):
    code = "GL317"
    slug = "trainable-buffer"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (BufferTrained,)
    triggers = r"\bregister_buffer\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        text = facts.text
        if not (_LEARNS.search(text) or re.search(_INITIALISED.format(r"\w+"), text)) or not facts.is_module:
            return
        elsewhere = [e for e in facts.made.events(Register, SetAttribute) if not _is_buffer(e)]
        for event in facts.made.events(Register):
            name, value = _named(event), event.value
            if not name or not _is_buffer(event) or not event.concerns(facts.instance) or _optimized(facts, name):
                continue
            tensor = only(value, Tensor)
            learns = tensor is not None and _wants_to_learn(tensor)
            if learns and any(o is tensor for e in elsewhere for o in options(e.value)):
                continue
            if not learns and not _like_a_weight(facts, name, value):
                continue
            made = made_by(tensor) if learns else ""
            report(
                event.place,
                "a tensor that should learn is registered as a buffer",
                label=f"`{name}` is a buffer of `{facts.name}`, not a parameter",
                why=f"`parameters()` leaves `{name}` out, so that no optimizer ever moves it",
                help=f"write `self.{name} = nn.Parameter(...)` if it should learn"
                + (", else leave `nn.Parameter` out" if made == "Parameter" else ""),
                note="a buffer that an optimizer of its own is handed does learn",
                confidence=Confidence.HIGH if learns else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, BufferTrained)
        name, owner = sighting.attribute, sighting.owner
        report(
            "a tensor that should learn is registered as a buffer",
            site=sighting.made or sighting.built,
            label=f"`{name}` is a buffer of `{owner}`, not a parameter",
            why=f"`{name}` got gradients in every backward, and no optimizer moves it",
            help=f"write `self.{name} = nn.Parameter(...)` if it should learn, else let it not require grad",
            note="a buffer that an optimizer of its own is handed does learn",
            related=[("the optimizer is built here", sighting.built), ("steps here", sighting.site)],
            confidence=Confidence.MEDIUM if sighting.wanted else Confidence.HIGH,
            subject=name,
        )


def _is_buffer(event: Event) -> bool:
    return isinstance(event, Register) and event.how == "buffer"


def _named(event: Register) -> str:
    """The name of what is registered, where the code spells it out."""
    name = event.name
    return name.value if isinstance(name, Constant) and isinstance(name.value, str) else ""


def _wants_to_learn(tensor: Thing) -> bool:
    """Whether it was made to require grad and still does."""
    return requires_grad(tensor) is True and tensor.args is not None


def _like_a_weight(facts: ClassFacts, name: str, value: Value | None) -> bool:
    """Whether it is initialised and used as a weight is, and nothing of the class writes it."""
    if any(not isinstance(o, Thing) or not isinstance(o.what, (Tensor, Opaque)) for o in options(value)):
        return False
    word, text = re.escape(name), facts.inherited
    return all(re.search(p.format(word), text) for p in (_INITIALISED, _MULTIPLIED)) and not re.search(
        _WRITTEN.format(word), text
    )


def _optimized(facts: ClassFacts, name: str) -> bool:
    """Whether code of the project hands its buffers, or this one, to an optimizer."""
    word = re.escape(name)
    line = rf"(?i:optim|param|\bAdam|\bSGD|grad)[^\n]*\.{word}\b|\.{word}\b[^\n]*(?:requires_grad|\.grad\b)"
    for text in facts.elsewhere():
        if f".{name}" in text and any(f".{name}" in one and re.search(line, one) for one in text.split("\n")):
            return True
        if "buffers(" in text and _BUFFERS.search(text):
            return True
    return False
