"""The base class of every rule: what it is called, and the hooks that it may fill.

A rule lives in `rules/<slug_with_underscores>.py` beside its page `rules/<slug_with_underscores>.md`; adding the
two files is all it takes. A rule asks the facts that it is handed and never matches text or climbs trees (a pattern
in one place it leaves to libcst's matchers, in `on_definition`); its body reads as its reasons for silence: guards,
early return, one report. Importing a rule needs neither torch nor libcst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from gradcheck_lint.finding import Confidence, Safety, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.definitions import DefinitionFacts
    from gradcheck_lint.finding import Fix
    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


class Report(Protocol):
    """How a static rule says that it found something; given to every hook."""

    def __call__(
        self,
        place: Place,
        message: str,
        *,
        label: str,
        why: str,
        help: str,
        note: str = "",
        related: Sequence[tuple[str, Place]] = (),
        fix: Fix | None = None,
        confidence: Confidence = Confidence.HIGH,
    ) -> None: ...


class RunReport(Protocol):
    """How a rule says that it found something in a run; the place is the sighting's unless `site` is given.

    A mistake is told once for each place and `subject` (a layer, say).
    """

    def __call__(
        self,
        message: str,
        *,
        label: str,
        why: str,
        help: str,
        note: str = "",
        site: Site | None = None,
        related: Sequence[tuple[str, Site | None]] = (),
        confidence: Confidence = Confidence.HIGH,
        subject: str = "",
    ) -> None: ...


class Rule:
    """One mistake: its metadata, and empty hooks that a subclass fills where it needs them."""

    code: ClassVar[str]  # "GL101"
    slug: ClassVar[str]  # "missing-zero-grad": names the defect, not the cure
    severity: ClassVar[Severity] = Severity.ERROR
    fix: ClassVar[Safety | None] = None  # the safety of the fix that it can offer
    witnesses: ClassVar[frozenset[str]] = frozenset({"source"})  # "source": the linter, "run": the watcher

    triggers: ClassVar[str] = ""
    """A regular expression over source text. Only functions whose text matches some rule's triggers, enabled or not
    (or the words of the gradient cycle), are read; all others are skipped unread. `on_definition` is called for those
    alone that match its own. For a rule with `on_class` it is about the text of a class instead, and makes no function
    be read."""

    listens: ClassVar[tuple[type[Event], ...]] = ()
    """The kinds of events (`gradcheck_lint.source.events`) that `on_event` wants."""

    needs: ClassVar[tuple[type[Event], ...]] = ()
    """The kinds of events without which `on_timeline` finds nothing: it is asked where there is one of them. With none
    named it is asked about every timeline."""

    breaches: ClassVar[frozenset[str]] = frozenset()
    """The breaches of the protocol (`gradcheck_lint.laws.cycle`) that `on_breach` wants."""

    watches: ClassVar[tuple[type[Sighting], ...]] = ()
    """The kinds of sightings of a run (classes in `gradcheck_lint.runtime.sightings`) that `on_sighting` wants."""

    yields_to: ClassVar[frozenset[tuple[str, Literal["optimizer", "step", "line", "names"]]]] = frozenset()
    """Codes of rules that tell the cause of what this one finds in a run, each with what both have to be about: the
    same "optimizer", the same "step" of it, the same "line" of the program, or parameters whose "names" the cause
    tells too. Beside such a finding this one is not told."""

    def on_event(self, event: Any, report: Report) -> None:
        """Called once for each event of a kind in `listens`, in the order in which the program causes them.

        A rule writes what it listens to in place of Any: `def on_event(self, event: events.Step, report: Report)`.
        """

    def on_breach(self, breach: Breach, report: Report) -> None:
        """Called once for each place at which the protocol is broken in a way named in `breaches`."""

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        """Called once for each entry point, with the tree of all events that it causes."""

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        """Called once for each class whose text matches the rule's triggers."""

    def on_definition(self, definition: DefinitionFacts, report: Report) -> None:
        """Called once for each function (and for a module's own code) whose text matches the rule's triggers.

        Here a rule looks for a local pattern in the tree of libcst, with its visitors and `libcst.matchers`, and asks
        what the analysis took the parts for. It imports them in here, so that only files that matter pay for it.
        """

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        """Called for what the watcher sees in a run, each time that it is of a kind in `watches`."""
