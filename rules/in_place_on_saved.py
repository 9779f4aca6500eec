"""GL416: torch refuses a backward, for a tensor that it needs was changed in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.order import SavedChanged

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class InPlaceOnSaved(Rule):
    code = "GL416"
    slug = "in-place-on-saved"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (SavedChanged,)
    yields_to = frozenset({("GL112", "step"), ("GL201", "step"), ("GL309", "step")})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, SavedChanged)
        needs, why = f"`{sighting.needs}`", "torch computes no gradient from other values than those that it has seen"
        if sighting.moved is not None:
            (name,) = sighting.names
            report(
                "backward needs a weight that was changed since the forward pass",
                label=f"{needs} needs `{name}` as it was, and it has been written to since",
                why=why,
                help="go backward before the step that moves it, or run the forward pass again after that",
                related=[("this step moves it", sighting.moved)],
            )
            return
        result = f"the result of `{sighting.made}`" if sighting.made else "a tensor"
        itself = sighting.made == sighting.needs
        wanted = "which its own gradient is computed from" if itself else f"which {needs} needs for its gradient"
        who = sighting.by or (f"`{sighting.names[0]}`" if sighting.names else "an operation in place")
        report(
            "a tensor that backward needs is changed in place",
            label=f"{who} changes {result}, {wanted}",
            why=why,
            help="make a new tensor: `x = x + 1` in place of `x += 1`, `torch.where` in place of an assignment"
            if not sighting.names
            else f"build `{sighting.names[0]}` without `inplace=True`",
            related=[("backward was called here", sighting.called)],
        )
