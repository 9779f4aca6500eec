"""What is put into the record when the watching is over, or looked at before: sources, and what could not be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.runtime import sites

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import RunRecord
    from gradcheck_lint.runtime.session import Session

_AROUND = 2  # lines of source before and after each place that are kept


def conclude(session: Session) -> None:
    """Fill in what needs nothing but what is known already."""
    for observer in session.roster.everybody():
        observer.watched.blind = (*_blind(session, observer), *session.unseen)
    record = session.record
    record.checked["steps"] = sum(observer.watched.checked for observer in session.roster.everybody())
    kept, left_out = sum(map(len, record.series.values())), session.series.left_out
    record.checked["numbers read"] = kept + left_out
    if left_out:
        record.checked["numbers left out of the record"] = left_out
    if session.engine.left_out:
        record.checked["findings left out of the record"] = session.engine.left_out
    keep_sources(record)


def _blind(session: Session, observer: Observer) -> Iterator[str]:
    """What the watcher could not see of an optimizer, one phrase each."""
    watched = observer.watched
    if observer.opaque:
        counted = "" if observer.steps else "its steps were not counted and "
        yield f"{observer.opaque}, so {counted}the order of its calls was not judged"
    elif watched.steps == 0:
        yield "it never stepped" if watched.backwards else "nothing happened to it"
    found = session.models or session.record.models  # some may be gone by now
    if not found and watched.steps and not all(parameter.held for parameter in watched.parameters):
        yield "no model or variable was found that holds its parameters; `watch(..., model=...)` names one"


def keep_sources(record: RunRecord) -> None:
    """The lines that the findings speak of, as the program was when it ran."""
    for finding in record.findings:
        for span in (finding.span, *(related.span for related in finding.related)):
            record.sources.setdefault(span.path, {}).update(sites.around(span.path, span.line, _AROUND))
