"""Watching one optimizer: what happens to its gradients, fed to the machine of `gradcheck_lint.cycle`.

The first steps are checked in full, and a step now and then after that. In between the observer sleeps: no hook is on
a parameter, steps, backwards and zeroings are merely counted, and if their numbers do not fit what was seen before it
looks closely for a while. What the machine calls a breach is believed only if the tensors themselves agree: a
program may write or clear gradients in ways that nobody can hook.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint import cycle
from gradcheck_lint.runtime import patches, sites
from gradcheck_lint.runtime.record import Event, Moment, Parameter, Sighting, Watched
from gradcheck_lint.runtime.references import Place
from gradcheck_lint.runtime.trails import trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.trails import Trail

FIRST = 20  # steps that are checked in full before sampling begins
SENTINELS = 3
_FARTHEST = 20  # times `every`: samples that cost much are no farther apart than this
ROUNDS = 24  # of the latest steps, what led to each
_ATTEND = 5  # how often something odd on a step between samples makes the next steps be checked in full


class Round(NamedTuple):
    """What led to one step."""

    mark: sites.Mark | None  # of the step
    trail: Trail
    window: tuple[Event, ...]  # the backwards whose gradients it used
    dropped: tuple[Dropped, ...]  # those whose gradients were cleared before
    clips: tuple[sites.Mark | None, ...]
    untouched: bool  # whether the gradients were still what backward had made of them, where that was looked at


class Dropped(NamedTuple):
    """Gradients that were cleared before any step had used them."""

    window: tuple[Event, ...]
    mark: sites.Mark | None  # of the clearing
    usual: bool  # whether that line has also cleared when there was nothing to lose


class Observer:
    """One optimizer under watch. `attach` hooks it, `detach` leaves it as it was."""

    def __init__(self, session: Session, optimizer: Optimizer, watched: Watched, built: sites.Mark | None) -> None:
        self.session = session
        self.watched = watched
        self.built = built
        self.state = cycle.State()
        self.full = True  # awake: this step is checked in full
        self.seen: list[Tensor] = []  # the parameters in which gradients were accumulated since the last backward ended
        self.window: list[Event] = []  # backwards since the gradients were last used or cleared
        self.windows: deque[int] = deque(maxlen=16)  # how many backwards each of the latest steps used
        self.latest: dict[str, Event] = {}  # by kind
        self.received: Counter[int] = Counter()  # how often each parameter got a gradient, by id
        self.names: dict[int, str] = {}
        self.opaque = ""  # why breaches of this optimizer cannot be told, empty if they can
        self.scaler_stepping = False
        self.idle: tuple[sites.Mark | None, dict[str, Any]] | None = None  # a step before any backward
        self.skipped = 0  # steps that a scaler left out
        self.broken = False  # it is known why its steps find no gradients: the model has other tensors now, say
        self.rounds: deque[Round] = deque(maxlen=ROUNDS)
        self.closely = False  # something is suspected: also look at where calls come from, and at gradients
        self.began = ""  # what the gradients were when the first step came
        self._dropped: list[Dropped] = []
        self._clips: list[sites.Mark | None] = []
        self._lines: dict[tuple[str, int, int], int] = {}  # how often each line has caused each kind of event
        self._odd_lines: dict[tuple[str, int, int], int] = {}  # how often something was wrong with that
        self._idle_zeros: set[tuple[str, int, int]] = set()  # lines that have cleared what nobody misses
        self._made: list[tuple[Place, int, Tensor]] = []  # gradients as backward left them
        self.trails: dict[int, Trail] = {}  # by the order of the event
        self._fed: set[int] = set()  # the sentinels that got gradients in this window
        self._dropped_by_hand = False
        self._lazy = False  # some parameters have no shape before the first forward pass
        self._instead: dict[str, Any] = {}  # the optimizer that is cleared instead of this one
        self._early: dict[tuple[int, int], int] = {}  # lines that moved the schedule before the first step
        self._touched = False  # a clipping or an unscaling has changed them since, as it should
        self._ref = weakref.ref(optimizer)
        self._before: Any = None  # the handles of the hooks on the step
        self._after: Any = None
        self._hooked: dict[int, Any] = {}
        self._looking: list[Any] = []
        self._spent: dict[int, tuple[int, int]] = {}  # id and version of each gradient after the last step
        self._old_found = False  # the last look met gradients that nobody had cleared
        self._empty_found = self._zero_found = False
        self._old_window = False  # the window began on gradients that nobody had cleared
        self._inside = 0  # how many steps of this optimizer are running, one inside the other
        self._nested = 1  # the most that there were, for a subclass that calls `super().step()`
        self._asleep_at = self._watching = 0.0  # when it last fell asleep, and the seconds of watching until then
        self._asleep_after = 0  # and the steps
        self._slept = self._night = 0  # how often a step ended since it fell asleep, and after how many it wakes
        self._zeros = self._backwards = 0  # how many there had been, of all optimizers, when the last step ended
        self._pattern = (0, 0)  # how many of each came before the step, the last time that it was awake
        self._closure_ran = False
        self._closure_backwards = self._closure_zeros = 0
        self._attended = 0
        self._attention = FIRST  # the step up to which everything is checked

    # What is watched

    @property
    def optimizer(self) -> Optimizer | None:
        return self._ref()

    @property
    def label(self) -> str:
        return self.watched.label

    def parameters(self) -> list[Tensor]:
        """The tensors that the optimizer holds now, in its order."""
        optimizer = self._ref()
        if optimizer is None:
            return []
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def groups(self) -> list[dict[str, Any]]:
        optimizer = self._ref()
        return optimizer.param_groups if optimizer is not None else []

    def ids(self) -> set[int]:
        return {id(parameter) for parameter in self.parameters()}

    def attach(self) -> None:
        optimizer = self._ref()
        if optimizer is None:
            return
        self._before = optimizer.register_step_pre_hook(self._before_step)
        self._after = optimizer.register_step_post_hook(self._after_step)
        if any(parameter.grad is not None for parameter in self.parameters()):
            self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)
        self.watch_parameters(everything=True)
        self._choose_sentinels()

    def detach(self) -> None:
        if not self.full:
            self._settle()
        for handle in (self._before, self._after):
            if handle is not None:
                handle.remove()
        self._unhook(self._hooked)
        self._stop_looking()

    def watch_parameters(self, *, everything: bool) -> None:
        """Count accumulations in all parameters, or in the sentinels alone."""
        wanted = self.parameters() if everything else self._sentinels()
        ids = {id(parameter) for parameter in wanted}
        self._unhook({key: handle for key, handle in self._hooked.items() if key not in ids})
        count = self.seen.append
        self._lazy = any(is_lazy(parameter) for parameter in wanted)
        for parameter in wanted:
            if is_lazy(parameter):
                continue  # has no shape yet; the first step finds it again
            if id(parameter) not in self._hooked and parameter.requires_grad and parameter.is_leaf:
                handle = parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]
                self._hooked[id(parameter)] = handle

    def _unhook(self, handles: dict[int, Any]) -> None:
        for key, handle in list(handles.items()):
            handle.remove()
            self._hooked.pop(key, None)

    def _sentinels(self) -> list[Tensor]:
        """A few parameters spread over the optimizer that get gradients, small ones where there is a choice."""
        able = [p for p in self.parameters() if p.requires_grad and p.is_leaf and not is_lazy(p)]
        fed = [p for p in able if id(p) in self.received] or able
        often = max((self.received.get(id(p), 0) for p in fed), default=0)
        fed = [p for p in fed if self.received.get(id(p), 0) == often]
        if len(fed) <= SENTINELS:
            return fed
        part = len(fed) / SENTINELS
        chosen = []
        for index in range(SENTINELS):
            among = fed[int(index * part) : max(int((index + 1) * part), int(index * part) + 1)]
            small = [p for p in among if p.numel() > 1] or among
            chosen.append(min(small, key=lambda p: p.numel()))
        return chosen

    def _choose_sentinels(self) -> None:
        self._stop_looking()
        for parameter in self._sentinels():
            place = Place(self, parameter)
            look = _Look(self, place)
            handle = parameter.register_hook(look)  # type: ignore[no-untyped-call]
            self._looking.append((place, handle))

    def _stop_looking(self) -> None:
        for ref, handle in self._looking:
            handle.remove()
            parameter = ref()
            if parameter is not None and not parameter._backward_hooks:
                parameter._backward_hooks = None  # as it was before
        self._looking = []

    def renew(self) -> None:
        """The optimizer holds other tensors than before."""
        self.names.clear()
        self._spent.clear()
        if self.full:
            self._hook()

    def _hook(self) -> None:
        self.watch_parameters(everything=self.watched.steps < self._attention)
        self._choose_sentinels()

    def _sleep(self) -> None:
        self.full = False
        self._unhook(self._hooked)
        self._stop_looking()
        self._spent.clear()
        self.seen.clear()
        self._new_window()
        self.closely = False
        self.trails.clear()
        self._dropped, self._clips, self._made = [], [], []
        self._slept = 0
        self._night = (self._next_sample() - 1 - self.watched.steps) * self._nested
        self._before.remove()
        self.session.listen()

    def _next_sample(self) -> int:
        """The step to be checked next: the next multiple of `every`, or a later one where a check costs much."""
        from gradcheck_lint.runtime.checks.replicas import world

        options, now = self.session.options, time.perf_counter()
        steps = self.watched.steps
        passed, number = now - self._asleep_at, steps - self._asleep_after
        cost = self.session.watching - self._watching
        far = options.every
        if self._asleep_after and options.budget and number and world()[1] == 1:  # ranks are compared at the same steps
            able = cost / (options.budget * max((passed - cost) / number, 1e-9))
            far = min(max(int(able), options.every), _FARTHEST * options.every)
        self._asleep_at, self._asleep_after, self._watching = now, steps, self.session.watching
        return (max(steps + 1 + far, steps + 2) // options.every) * options.every or options.every

    def _wake(self) -> None:
        """A step has just ended: whatever gradients there are, it has used them."""
        self._settle()
        self.full = True
        optimizer = self._ref()
        if optimizer is not None:
            self._before = optimizer.register_step_pre_hook(self._before_step)
        spent = any(parameter.grad is not None for parameter in self.parameters())
        self.state = cycle.State(cycle.SPENT if spent else cycle.CLEAN, stepped=True)
        self._old_window = self._old_found = self._empty_found = self._zero_found = False
        self._hook()
        self._remember_gradients()
        self.session.listen()

    @property
    def steps(self) -> int:
        """How many steps it has made, with those that are only counted so far."""
        return self.watched.steps + self._slept // self._nested

    def _settle(self) -> None:
        """Bring the numbers up to date that are only counted while asleep."""
        steps, self._slept = self._slept // self._nested, 0
        self.watched.steps += steps
        counts = patches.COUNTS
        zeros, backwards = counts.zeros - self._zeros, counts.backwards - self._backwards
        self._zeros, self._backwards = counts.zeros, counts.backwards
        more, lost = zeros - steps * self._pattern[0], backwards - steps * self._pattern[1]
        if (more or lost) and self._attended < _ATTEND:
            self._attended += 1
            self._attention = self.watched.steps + 3
            usual = self._usual()
            if 0 < more < steps and 0 < lost < usual * more:
                self.sight(
                    cycle.DISCARDED,
                    self.mark_of("zero"),
                    window=lost // more or 1,
                    usual=usual,
                    regular=False,
                    finite=True,
                )

    # What happens

    def event(self, kind: str, how: str = "", mark: sites.Mark | None = None) -> str | None:
        """Feed the machine; the breach that it names, if any."""
        session = self.session
        event = Event(kind, session.tick(), self.watched.steps, how, mark)
        self.state, breach = cycle.advance(self.state, kind, event, how)
        self.latest[kind] = event
        if mark is not None:
            line = (kind, id(mark.code), mark.last)
            self._lines[line] = self._lines.get(line, 0) + 1
        if self.closely:
            self.trails[event.order] = trail()
        session.remember(self, event)
        return breach

    def tally(self, kind: str, mark: sites.Mark | None) -> dict[str, Any]:
        """Count that something was wrong with an event of this line: how often it was, and how often the line ran."""
        if mark is None:
            return {"times": 1, "of": 1}
        line = (kind, id(mark.code), mark.last)
        self._odd_lines[line] = self._odd_lines.get(line, 0) + 1
        return {"times": self._odd_lines[line], "of": self._lines.get(line, 1)}

    def on_zero(self, mark: sites.Mark | None) -> None:
        """The gradients of this optimizer were cleared."""
        if not self._closure_ran:
            self._inside = 0  # a step that was begun and never ended has raised
        self.watched.zeros += 1
        if self.watched.zeros == 2 and not self.watched.name:
            self.session.look_around(self)
        window, usual = len(self.window), self._usual()
        breach = self.event("zero", mark=mark)
        self._spent.clear()
        self._old_window = False
        line = ("zero", id(mark.code), mark.last) if mark is not None else None
        if breach == cycle.DISCARDED and self.window:
            regular = line in self._idle_zeros
            self._dropped.append(Dropped(tuple(self.window), mark, regular))
            finite = True
            if 0 < window < usual:  # a part of a window, if it is made by the same line as the whole ones
                lines = {event.mark for event in self.rounds[-1].window} if self.rounds else set()
                finite = all(event.mark in lines for event in self.window) and self.finite()
            self.sight(breach, mark, window=window, usual=usual, made=self._marks(), regular=regular, finite=finite)
            self.look_closely()
        elif line is not None:
            self._idle_zeros.add(line)
        self._new_window()

    def _new_window(self) -> None:
        self.window = []
        self._fed.clear()

    def look_closely(self) -> None:
        """Something is suspected: the next rounds are recorded with all that can be known of them."""
        if self.watched.steps < self._attention:
            self.closely = True

    def finite(self) -> bool:
        """Whether the gradients hold numbers only. Reads values, so only on suspicion."""
        return all(bool(grad.isfinite().all()) for grad in self._dense_gradients())

    def _dense_gradients(self) -> list[Tensor]:
        grads = [parameter.grad for parameter in self.parameters()]
        return [grad.coalesce().values() if grad.is_sparse else grad.detach() for grad in grads if grad is not None]

    def on_backward(self, event: Event) -> None:
        """A backward has put gradients into parameters of this optimizer; `seen` names them."""
        self.watched.backwards += 1
        self.received.update(map(id, self.seen))
        self.seen.clear()
        if self.state.gradient == cycle.SPENT:
            if self._empty_found or (self._zero_found and not self._old_found):
                # cleared in a way that cannot be hooked, as by `p.grad = None`
                self.event("zero")
                self.watched.zeros += 1
                self._new_window()
            else:
                self._old_window = self._old_found or self._kept()
        elif self._dropped_by_hand and self.window:
            self._dropped.append(Dropped(tuple(self.window), None, True))
            self._new_window()
        self._old_found = self._empty_found = self._zero_found = self._dropped_by_hand = False
        self.state, _ = cycle.advance(self.state, "backward", event, event.how)
        self.latest["backward"] = event
        self.window.append(event)
        self._fed.update(id(parameter) for ref, _ in self._looking if (parameter := ref()) is not None)
        if self.closely:
            self._probe()
        self.session.remember(self, event._replace(step=self.watched.steps))

    def _probe(self) -> None:
        """Remember the gradients of the sentinels as backward left them."""
        self._touched = False
        self._made = []
        for ref, _ in self._looking:
            parameter = ref()
            grad = parameter.grad if parameter is not None else None
            if grad is not None and not grad.is_sparse:
                self._made.append((ref, id(grad), grad.detach().reshape(-1)[:16].clone()))

    def touch(self) -> None:
        """The gradients are changed as they should be: clipped or unscaled."""
        if self.closely and self._made and not self.untouched():
            self._made = []  # they had been changed before in another way
        self._touched = True

    def on_clip(self, mark: sites.Mark | None) -> None:
        if self.window:
            self._clips.append(mark)

    def on_schedule(self, scheduler: Any, mark: sites.Mark | None) -> None:
        """The schedule of this optimizer moves. Early is told when the same line has come again, after a step."""
        early = self.event("schedule", mark=mark) is not None
        if mark is None or self.opaque or hasattr(scheduler, "mode_worse"):  # ReduceLROnPlateau starts from a number
            return
        line = (id(mark.code), mark.last)
        if early:
            self._early[line] = self._early.get(line, 0) + 1
        elif self._early.get(line) == 1:
            self.sight(cycle.EARLY_SCHEDULE, mark, scheduler=type(scheduler).__name__)

    def untouched(self) -> bool:
        """Whether the gradients are what backward made of them. Reads values, so only on suspicion."""
        if not self._made:
            return False
        for ref, key, values in self._made:
            parameter = ref()
            grad = parameter.grad if parameter is not None else None
            if grad is None or id(grad) != key:
                return False
            if not self._touched and not bool(
                (grad.detach().reshape(-1)[:16] == values).logical_or(values.isnan()).all()
            ):
                return False
        return True

    def look(self, parameter: Tensor) -> None:
        """Called before a gradient is added to that of a sentinel."""
        grad = parameter.grad
        if grad is None:
            self._empty_found = True
            self._dropped_by_hand = self._dropped_by_hand or id(parameter) in self._fed
        elif self.state.gradient == cycle.SPENT:
            if not self._same(parameter, grad):
                self._empty_found = True
            elif self._holds_something(grad):
                self._old_found = True
            else:
                self._zero_found = True

    def _same(self, parameter: Tensor, grad: Tensor) -> bool:
        """Whether this is the gradient that the last step left, not another tensor put in its place."""
        spent = self._spent.get(id(parameter))
        return spent is None or spent[0] == id(grad)

    def _kept(self) -> bool:
        """Whether the gradients are the very tensors that the last step left, where no sentinel could look (FSDP2)."""
        grads = [(id(p), id(p.grad)) for p in self.parameters() if p.grad is not None]
        return bool(self._spent) and all(key in self._spent and self._spent[key][0] == grad for key, grad in grads)

    @staticmethod
    def _holds_something(grad: Tensor) -> bool:
        # Reads a value, which makes an accelerator wait; only while gradients seem to be kept, so not in sound runs.
        values = grad.coalesce().values() if grad.is_sparse else grad
        return bool(values.detach().any())

    # The step

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.session.compiling():
            self.opaque = "its step is compiled"
            return None
        if self._inside:  # a subclass calls `super().step()`
            self._inside += 1
            self._nested = max(self._nested, self._inside)
            return None
        return self.session.guard(self._step_begins, optimizer, args, kwargs)

    def _step_begins(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._inside = 1
        self._closure_ran = False
        watched = self.watched
        watched.steps += 1
        if watched.steps == 1:
            self.began = self.state.gradient
            if self._lazy:
                self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)
                self._hook()
        mark = sites.here(3)
        if self.session.in_backward:
            self.opaque = "it steps while backward runs"
        closure = kwargs.get("closure") if "closure" in kwargs else (args[1] if len(args) > 1 else None)
        if callable(closure):
            wrapped = self._wrap(closure, mark)
            if "closure" in kwargs:
                return args, {**kwargs, "closure": wrapped}
            return (args[0], wrapped, *args[2:]), kwargs
        if watched.steps == 1 and self.searches():
            self.sight("closure-missing", mark)
        self._uses_gradients(mark)
        return None

    def _wrap(self, closure: Callable[[], Any], mark: sites.Mark | None) -> Callable[[], Any]:
        def gradlint_closure() -> Any:
            self._closure_ran = True
            self.session.guard(self._closure_begins)
            result = closure()
            self.session.guard(self._closure_ends, mark, result)
            return result

        return gradlint_closure

    def _closure_begins(self) -> None:
        self._closure_backwards = self.watched.backwards
        self._closure_zeros = self.watched.zeros

    def _closure_ends(self, mark: sites.Mark | None, result: Any) -> None:
        made = self.watched.backwards - self._closure_backwards
        if result is None:
            self.sight("closure-without-loss", mark, lbfgs=self.searches())
        cleared = self.watched.zeros - self._closure_zeros
        self._uses_gradients(mark, closure=True, made_inside=made, cleared_inside=cleared)

    def _uses_gradients(self, mark: sites.Mark | None, **detail: Any) -> None:
        """The optimizer is about to read the gradients."""
        session = self.session
        session.before_update(self, mark)
        before = self.state
        breach = self.event("step", "scaler" if self.scaler_stepping else "", mark)
        if breach is None and before.gradient in (cycle.FIRST, cycle.READY) and self.erased_by_hand():
            breach = cycle.ERASED_STEP
        if breach is not None and not self.opaque:
            self._judge(breach, before, mark, detail)
        if self.window:
            self.windows.append(len(self.window))
        if not detail:
            self._end_round(mark)
        session.used(self, mark)
        self._new_window()
        self._old_window = False

    def _end_round(self, mark: sites.Mark | None) -> None:
        order = self.latest["step"].order
        sure = self.closely and bool(self._dropped) and self.untouched()
        self.rounds.append(
            Round(mark, self.trails.get(order, ()), tuple(self.window), tuple(self._dropped), tuple(self._clips), sure)
        )
        self._dropped, self._clips = [], []
        if not self.closely and self.trails:
            self.trails.clear()

    def erased_by_hand(self) -> bool:
        """Whether backward has made gradients and none is there any more; not where others have hooks of their own."""
        if len(getattr(self._ref(), "_optimizer_step_pre_hooks", ())) > 1:
            return False
        for parameter in self.parameters():
            if parameter.grad is not None:
                return False
            hooks = getattr(parameter, "_post_accumulate_grad_hooks", None)
            if hooks is not None and len(hooks) > 1:
                return False
        return True

    def searches(self) -> bool:
        """Whether this is an optimizer that calls its closure again and again, and cannot do without."""
        return any(kind.__name__ == "LBFGS" for kind in type(self._ref()).__mro__)

    def _judge(self, breach: str, before: cycle.State, mark: sites.Mark | None, detail: dict[str, Any]) -> None:
        """Tell a breach at a step, if the tensors agree with the machine."""
        if breach == cycle.STALE_STEP and not self._old_window:
            return
        if breach in (cycle.EMPTY_STEP, cycle.ERASED_STEP) and self.broken:
            return
        if breach in (cycle.EMPTY_STEP, cycle.ERASED_STEP) and self.written():
            self.state = self.state._replace(gradient=cycle.OUTSIDE, scale=cycle.ENGINE)
            return
        tally = self.tally("step", mark)
        if breach == cycle.EMPTY_STEP and not self.watched.backwards and not detail:
            self.idle = (mark, {**tally, "gradient": before.gradient, "began": self.began})
            return  # it may be another's turn; told at the end, if none has come by then
        scaled = breach in (cycle.SCALED_STEP, cycle.SCALED_CLIP)
        if scaled:
            self.look_closely()
        self.sight(
            breach,
            mark,
            **tally,
            **self._cleared_instead(breach),
            untouched=scaled and self.untouched(),
            began=self.began,
            lbfgs=self.searches(),
            made=self._marks(before.made),
            cleared=before.cleared.mark if isinstance(before.cleared, Event) else None,
            zeros=self.watched.zeros,
            cleared_at=before.cleared.step if isinstance(before.cleared, Event) else None,
            made_at=before.made.step if isinstance(before.made, Event) else None,
            gradient=before.gradient,
            windows=tuple(self.windows),
            **detail,
        )

    def _cleared_instead(self, breach: str) -> dict[str, Any]:
        """The optimizer that was cleared in this one's place: again, though it has not stepped since."""
        if breach != cycle.STALE_STEP or self.watched.zeros or self._instead:
            return self._instead if breach == cycle.STALE_STEP else {}
        since = self.rounds[-1].window[-1].order if self.rounds and self.rounds[-1].window else 0
        for other in self.session.observers.values():
            zero, step = other.latest.get("zero"), other.latest.get("step")
            if other is self or zero is None or zero.order <= since or (step is not None and step.order > zero.order):
                continue
            if other.watched.zeros > 2 * other.watched.steps - 1:
                self._instead = {"other": other.label, "other_zero": zero.mark}
        return self._instead

    def written(self) -> bool:
        """Whether somebody has put gradients there that no backward was seen to make."""
        for parameter in self.parameters():
            grad = parameter.grad
            if grad is None:
                continue
            if self._spent.get(id(parameter)) == (id(grad), grad._version):
                continue
            if self._holds_something(grad):
                return True
        return False

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.full:
            self._slept += 1
            if self._slept >= self._night and not self.session.compiling():
                self.session.guard(self._wake)
            return
        if self.session.compiling():
            return
        if self._inside > 1:
            self._inside -= 1
            return
        self.session.guard(self._step_ends)

    def _step_ends(self) -> None:
        self._inside = 0
        self._closure_ran = False
        watched, counts = self.watched, patches.COUNTS
        watched.checked += 1
        self._remember_gradients()
        self.session.after_update(self)
        self._pattern = (counts.zeros - self._zeros, counts.backwards - self._backwards)
        self._zeros, self._backwards = counts.zeros, counts.backwards
        steps = watched.steps
        if steps >= self._attention and (steps + 1) % self.session.options.every:
            self._sleep()

    def _remember_gradients(self) -> None:
        self._spent = {
            id(parameter): (id(grad), grad._version)
            for parameter in self.parameters()
            if (grad := parameter.grad) is not None
        }

    def attend(self, steps: int = 3) -> None:
        """Check the next steps in full: something looked wrong on a step that was not."""
        if not self.full:
            self._wake()
        self._attention = max(self._attention, self.watched.steps + steps)

    # Telling

    def _usual(self) -> int:
        """How many backwards the latest steps used, if it was the same number for each; else 0."""
        return self.windows[-1] if len(self.windows) > 1 and len(set(self.windows)) == 1 else 0

    def _marks(self, made: object = None) -> sites.Mark | None:
        if isinstance(made, Event):
            return made.mark  # type: ignore[no-any-return]
        return self.window[0].mark if self.window else None

    def sight(
        self, kind: str, mark: sites.Mark | None, *, names: tuple[str, ...] = (), step: int | None = None, **detail: Any
    ) -> None:
        """Hand something to the rules; marks among the details become sites. `step`: if it was not this one."""
        places = {"built": self.built, "step": self.mark_of("step"), "backward": self.mark_of("backward")}
        places["zero"] = self.mark_of("zero")
        for key in [key for key, value in detail.items() if isinstance(value, sites.Mark)]:
            places[key] = detail.pop(key)
        known: dict[str, Site] = {}
        for what, place in places.items():
            site = sites.resolve(place)
            if site is not None:
                known[what] = site
        site = sites.resolve(mark)
        step = self.watched.steps if step is None else step
        self.session.take(Sighting(kind, step, site, self.watched, names, known, detail | {"time": time.monotonic()}))

    def mark_of(self, kind: str) -> sites.Mark | None:
        event = self.latest.get(kind)
        return event.mark if event is not None else None

    def name(self, parameter: Tensor) -> str:
        """What the user calls a parameter of this optimizer."""
        name = self.names.get(id(parameter))
        if name is None:
            self._name_all()
            name = self.names.get(id(parameter)) or self.session.models.name(parameter) or "a tensor"
        return name

    def _name_all(self) -> None:
        optimizer = self._ref()
        if optimizer is None:
            return
        described = []
        models = self.session.models
        for number, group in enumerate(optimizer.param_groups):
            for index, parameter in enumerate(group["params"]):
                name = self.session.name(parameter)
                held = bool(models.name(parameter)) if models else bool(name)
                name = name or f"parameter {index} of group {number}"
                self.names[id(parameter)] = name
                described.append(
                    Parameter(
                        name,
                        tuple(parameter.shape),
                        str(parameter.dtype).removeprefix("torch."),
                        str(parameter.device),
                        number,
                        parameter.requires_grad,
                        held,
                    )
                )
        self.watched.parameters = tuple(described)

    def describe(self) -> None:
        """Fill in what the record says of the parameters."""
        self._name_all()


def is_lazy(parameter: Tensor) -> bool:
    """Whether a parameter of a lazy module has no shape yet."""
    return hasattr(parameter, "materialize")


class _Look:
    """The hook on a sentinel: looks at `.grad` before backward adds to it."""

    __torch_unserialize__ = True  # so that saving the tensor gives no warning about it

    def __init__(self, observer: Observer, place: Place) -> None:
        self._observer = observer
        self._place = place

    def __call__(self, grad: Tensor) -> None:
        observer = self._observer
        parameter = self._place()
        if parameter is not None and not observer.opaque:
            observer.session.guard(observer.look, parameter)


def moment(observer: Observer, event: Event) -> Moment:
    """The event as the report draws it."""
    site = sites.resolve(event.mark)
    return Moment(observer.watched.index, event.kind, event.step, event.order, str(site) if site else "")
