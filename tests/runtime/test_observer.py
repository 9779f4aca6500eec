"""The gradient cycle of a run: what is right stays silent, also between samples; what is wrong is named."""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.record import RunRecord
from gradcheck_lint.runtime.sampling import FIRST
from gradcheck_lint.runtime.session import Options, Session

CYCLE = ("GL1", "GL409")
RULES = [rule for rule in registry.load(packs=False) if rule.code.startswith(CYCLE)]
LONG = 125  # steps: those that are checked at first, a long sleep, two samples


def watched(program: Callable[[], object], *, least: Confidence = Confidence.HIGH, every: int = 50) -> RunRecord:
    """The record of a program's run, with the rules of the gradient cycle only."""
    torch.manual_seed(0)
    session = Session(RULES, Options(everything=True, every=every, least=least), lambda finding: None)
    session.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program()
    finally:
        session.stop()
    ours = ("Observer", "Session", "Rounds", "Leaks", "Retained", "Rebuilt", "GL")
    assert [problem for problem in session.record.problems if problem.startswith(ours)] == []
    return session.record


def codes(program: Callable[[], object], **options: Any) -> list[str]:
    return sorted({finding.code for finding in watched(program, **options).findings})


def network(inputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 1))


def loss_of(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(torch.randn(8, 3)).pow(2).mean()
    return result


# Right programs


def plain(steps: int = LONG, build: Callable[..., Any] = torch.optim.SGD, **options: Any) -> None:
    model = network()
    optimizer = build(model.parameters(), **{"lr": 0.01, **options})
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def zeros_kept() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def none_by_hand() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        for parameter in model.parameters():
            parameter.grad = None
        loss_of(model).backward()
        optimizer.step()


def zeroed_by_hand() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        loss_of(model).backward()
        optimizer.step()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()


def data_zeroed_by_hand() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(LONG):
        loss_of(model).backward()
        optimizer.step()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.data.zero_()


def cleared_by_model() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        model.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def written_by_hand() -> None:
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01)
    for _ in range(LONG):
        w.grad = torch.autograd.grad((w - 2).pow(2).sum(), w)[0]
        optimizer.step()


def accumulation() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(4 * LONG):
        (loss_of(model) / 4).backward()
        if i % 4 == 3:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def growing_accumulation() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(LONG):
        optimizer.zero_grad()
        for _ in range(1 + i // 10):
            loss_of(model).backward()
        optimizer.step()


def lbfgs() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, line_search_fn="strong_wolfe")
    x = torch.randn(8, 3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        return loss

    for _ in range(60):
        optimizer.step(closure)


def closure_of_sgd() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss.item()

    for _ in range(LONG):
        optimizer.step(closure)


def scaler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaling = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
    for _ in range(LONG):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model).float()
        scaling.scale(loss).backward()
        scaling.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaling.step(optimizer)
        scaling.update()


def scaler_with_several_losses() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaling = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    for _ in range(LONG):
        first, second = model(torch.randn(8, 3)).pow(2).mean(0)
        optimizer.zero_grad()
        total = scaling.scale(first) / 2 + scaling.scale(second)
        total.backward()
        scaling.step(optimizer)
        scaling.update()


def scaler_that_overflows() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaling = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for _ in range(LONG):
        optimizer.zero_grad()
        scaling.scale(loss_of(model) * 10).backward()
        scaling.step(optimizer)
        scaling.update()


def scaler_switched_off() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaling = torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(30):
        optimizer.zero_grad()
        scaling.scale(loss_of(model)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaling.step(optimizer)
        scaling.update()


def unscaled_by_hand() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaling = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    for _ in range(LONG):
        optimizer.zero_grad()
        scaling.scale(loss_of(model)).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.data.div_(scaling.get_scale())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def sparse() -> None:
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.01)
    for _ in range(LONG):
        optimizer.zero_grad()
        table(torch.randint(10, (4,))).pow(2).mean().backward()
        optimizer.step()


def differentiable() -> None:
    """An inner loop of meta-learning: the outer loss goes back through the inner step."""
    start = torch.ones(3, requires_grad=True)
    outer = torch.optim.SGD([start], lr=0.01)
    for _ in range(30):
        w = start.clone()
        w.retain_grad()
        inner = torch.optim.SGD([w], lr=0.1, differentiable=True)
        (w - 2).pow(2).sum().backward(retain_graph=True)
        inner.step()
        outer.zero_grad()
        (w - 3).pow(2).sum().backward()
        outer.step()


class Inheriting(torch.optim.SGD):
    """A subclass that calls the step that it inherits."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def optimizer_in_backward() -> None:
    model = network()
    optimizers = {p: torch.optim.SGD([p], lr=0.01) for p in model.parameters()}

    def update(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for _ in range(LONG):
        loss_of(model).backward()


def gan() -> None:
    generator, critic = nn.Linear(2, 3), network()
    opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(LONG):
        fake = generator(torch.randn(8, 2))
        opt_d.zero_grad()
        (critic(fake.detach()).mean() - critic(torch.randn(8, 3)).mean()).backward()
        opt_d.step()
        opt_g.zero_grad()
        (-critic(fake).mean()).backward()
        opt_g.step()


def gan_with_one_step_in_five() -> None:
    generator, critic = nn.Linear(2, 3), network()
    opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
    opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for i in range(LONG):
        opt_d.zero_grad()
        fake = generator(torch.randn(8, 2)).detach()
        critic(fake).mean().backward()
        (-critic(torch.randn(8, 3)).mean()).backward()
        opt_d.step()
        if i % 5 == 0:
            opt_g.zero_grad()
            (-critic(generator(torch.randn(8, 2))).mean()).backward()
            opt_g.step()


def two_in_turn() -> None:
    first, second = network(), network()
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.01)
    for i in range(LONG):
        optimizer.zero_grad()
        loss_of(first if i % 3 else second).backward()
        optimizer.step()


def scheduler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=10),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100),
        ],
        milestones=[10],
    )
    for _ in range(LONG):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        schedule.step()


def resumed_schedule() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5)
    for _ in range(3):
        schedule.step()
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        schedule.step()


def group_added() -> None:
    body, head = nn.Linear(3, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    for i in range(LONG):
        if i == 30:
            optimizer.add_param_group({"params": list(body.parameters())})
        optimizer.zero_grad()
        head(body(torch.randn(8, 3))).pow(2).mean().backward()
        optimizer.step()


class Failing(torch.optim.SGD):
    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.01)
        self.calls = 0

    def step(self, closure: Any = None) -> Any:
        self.calls += 1
        if self.calls % 7 == 0:
            raise ArithmeticError("not this one")
        return super().step(closure)


def step_that_raises() -> None:
    model = network()
    optimizer = Failing(model.parameters())
    for _ in range(LONG):
        optimizer.zero_grad()
        loss_of(model).backward()
        try:
            optimizer.step()
        except ArithmeticError:
            continue


def checkpointed(reentrant: bool) -> None:
    body, head = nn.Linear(3, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
    for _ in range(LONG):
        optimizer.zero_grad()
        x = torch.randn(8, 3, requires_grad=True)
        head(checkpoint(body, x, use_reentrant=reentrant)).pow(2).mean().backward()
        optimizer.step()


def skipped_and_cleared() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(4 * 30):
        loss = loss_of(model) * (float("nan") if i % 13 == 9 else 1.0)
        (loss / 4).backward()
        if not torch.isfinite(loss):
            optimizer.zero_grad()
        elif i % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


def adversarial() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        x = torch.randn(8, 3, requires_grad=True)
        model(x).pow(2).mean().backward()
        assert x.grad is not None
        worse = (x + 0.1 * x.grad.sign()).detach()
        optimizer.zero_grad()
        model(worse).pow(2).mean().backward()
        optimizer.step()


def surgery() -> None:
    """Gradients of several tasks are looked at one by one, put together, and written back."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(LONG):
        losses = model(torch.randn(8, 3)).pow(2).mean(0)
        found = []
        for loss in losses:
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
            found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        for parameter, grads in zip(model.parameters(), zip(*found, strict=True), strict=True):
            parameter.grad = torch.stack(grads).mean(0)
        optimizer.step()


def saliency() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        x = torch.randn(8, 3, requires_grad=True)
        model(x).sum().backward()


def folds() -> None:
    model = network()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(8):
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()


def folds_begun_anew() -> None:
    model = network()
    for _ in range(8):
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()


def losses_of_two_heads() -> None:
    body, first, second = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    opt_body, opt_first, opt_second = (torch.optim.SGD(m.parameters(), lr=0.01) for m in (body, first, second))
    for _ in range(LONG):
        for optimizer in (opt_body, opt_first, opt_second):
            optimizer.zero_grad()
        x = torch.randn(8, 3)
        first(body(x)).pow(2).mean().backward()
        opt_first.step()
        second(body(x)).pow(2).mean().backward()
        opt_second.step()
        opt_body.step()


def warm_up() -> None:
    """The generator's turn comes late; until then its step finds nothing to do."""
    generator, critic = nn.Linear(2, 3), network()
    opt_g = torch.optim.SGD(generator.parameters(), lr=1e-3)
    opt_d = torch.optim.SGD(critic.parameters(), lr=1e-3)
    for i in range(LONG):
        opt_g.zero_grad()
        if i > 30:
            (-critic(generator(torch.randn(8, 2))).mean()).backward()
        nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        opt_g.step()
        opt_d.zero_grad()
        critic(torch.randn(8, 3)).pow(2).mean().backward()
        opt_d.step()


def unfrozen_later() -> None:
    """The run ends before the body is unfrozen."""
    body, head = nn.Linear(3, 4), nn.Linear(4, 1)
    opt_body = torch.optim.SGD(body.parameters(), lr=0.01)
    opt_head = torch.optim.SGD(head.parameters(), lr=0.01)
    for i in range(10):
        opt_body.zero_grad()
        opt_head.zero_grad()
        head(body(torch.randn(8, 3))).pow(2).mean().backward()
        opt_head.step()
        if i > 100:
            opt_body.step()


def lazy() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def parts_in_turn_keeping_zeros() -> None:
    """Each backward goes to another part, and finds zeros there that lie since long before."""
    parts = [nn.Parameter(torch.randn(3)) for _ in range(40)]
    optimizer = torch.optim.SGD(parts, lr=0.01)
    for i in range(LONG):
        at = i % 8 * 5
        torch.cat(parts[at : at + 5]).pow(2).sum().backward()
        optimizer.step()
        for part in parts:
            if part.grad is not None:
                part.grad.zero_()


def parts_in_turn_within_a_step() -> None:
    parts = [network() for _ in range(4)]
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.01)
    for i in range(LONG):
        for part in parts:
            for p in part.parameters():
                p.grad = None
        for k in range(3):
            loss_of(parts[(i + k) % 4]).backward()
        optimizer.step()


def blocks_in_turn() -> None:
    """All gradients are made, those of one block are used."""
    blocks = [network(), network()]
    optimizers = [torch.optim.SGD(block.parameters(), lr=0.01) for block in blocks]
    for i in range(LONG):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (loss_of(blocks[0]) + loss_of(blocks[1])).backward()
        optimizers[i % 2].step()


class Selfmade(torch.optim.SGD):
    """Does in its own step what others do around it."""

    def __init__(self, parameters: Any, loss: Callable[[], torch.Tensor], clear: bool) -> None:
        super().__init__(parameters, lr=0.01)
        self.loss, self.clear = loss, clear

    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            if self.clear:
                self.zero_grad()
            (closure or self.loss)().backward()
        super().step()
        if not self.clear:
            self.zero_grad()


def selfmade(clear: bool, closure: bool) -> None:
    model = network()
    optimizer = Selfmade(model.parameters(), lambda: loss_of(model), clear)
    for _ in range(LONG):
        optimizer.step(*([lambda: loss_of(model)] if closure else []))


class Gathering(torch.optim.SGD):
    """Its step does something each third time."""

    calls = 0

    def step(self, closure: Any = None) -> Any:
        self.calls += 1
        return super().step(closure) if self.calls % 3 == 0 else None


def gathered_by_the_optimizer() -> None:
    model = network()
    optimizer = Gathering(model.parameters(), lr=0.01)
    for i in range(LONG):
        if i % 3 == 0:
            optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def step_that_raises_and_zeros_by_hand() -> None:
    model = network()
    optimizer = Failing(model.parameters())
    for _ in range(LONG):
        loss_of(model).backward()
        with suppress(ArithmeticError):
            optimizer.step()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()


def in_threads() -> None:
    """Each trains its own model, at the same time."""
    meeting = threading.Barrier(2, timeout=60)

    def train() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(60):
            meeting.wait()
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def backward_in_a_thread() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        thread = threading.Thread(target=loss_of(model).backward)
        thread.start()
        thread.join()
        optimizer.step()


def balanced(put: Callable[[torch.Tensor, torch.Tensor], None]) -> Callable[[], None]:
    """The gradient that backward leaves in the weights of the losses is thrown away, and another is put there."""

    def program() -> None:
        model = nn.Linear(3, 2)
        weights = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        balance = torch.optim.SGD([weights], lr=0.1)
        for _ in range(LONG):
            losses = model(torch.randn(4, 3)).square().mean(0)
            optimizer.zero_grad()
            (weights * losses).sum().backward()
            put(weights, weights.detach() - losses.detach())
            optimizer.step()
            balance.step()

    return program


def put_another_tensor(weights: torch.Tensor, grad: torch.Tensor) -> None:
    weights.grad = None
    weights.grad = grad.clone()


def put_other_values(weights: torch.Tensor, grad: torch.Tensor) -> None:
    assert weights.grad is not None
    weights.grad.data.zero_()
    weights.grad.data.copy_(grad)


RIGHT: dict[str, Callable[[], None]] = {
    "another gradient": balanced(put_another_tensor),
    "other values in the gradient": balanced(put_other_values),
    "a plain loop": plain,
    "momentum and weight decay": lambda: plain(momentum=0.9, weight_decay=0.01),
    "foreach": lambda: plain(build=torch.optim.Adam, foreach=True),
    "fused": lambda: plain(build=torch.optim.Adam, fused=True),
    "maximised": lambda: plain(maximize=True),
    "differentiable": differentiable,
    "a subclass that calls super().step()": lambda: plain(build=Inheriting),
    "zeros, cleared at the end": zeros_kept,
    "p.grad = None": none_by_hand,
    "p.grad.zero_()": zeroed_by_hand,
    "p.grad.data.zero_()": data_zeroed_by_hand,
    "model.zero_grad()": cleared_by_model,
    "gradients written by hand": written_by_hand,
    "steady accumulation": accumulation,
    "accumulation over more and more batches": growing_accumulation,
    "LBFGS that clears": lbfgs,
    "a closure for SGD": closure_of_sgd,
    "a scaler": scaler,
    "a sum of scaled losses": scaler_with_several_losses,
    "a scaler that skips steps": scaler_that_overflows,
    "a scaler that is switched off": scaler_switched_off,
    "unscaled by hand": unscaled_by_hand,
    "sparse gradients": sparse,
    "an optimizer in backward": optimizer_in_backward,
    "a GAN": gan,
    "a GAN whose generator steps seldom": gan_with_one_step_in_five,
    "two networks in turn": two_in_turn,
    "schedules in sequence": scheduler,
    "a schedule wound forward": resumed_schedule,
    "a group added later": group_added,
    "a step that raises": step_that_raises,
    "reentrant checkpoints": lambda: checkpointed(True),
    "checkpoints": lambda: checkpointed(False),
    "skipped batches, cleared": skipped_and_cleared,
    "adversarial inputs": adversarial,
    "gradient surgery": surgery,
    "saliency": saliency,
    "folds with the weights put back": folds,
    "folds with the weights drawn again": folds_begun_anew,
    "two heads on one body": losses_of_two_heads,
    "lazy parameters": lazy,
    "a turn that comes late": warm_up,
    "a part that is unfrozen later": unfrozen_later,
    "parts in turn, zeros kept": parts_in_turn_keeping_zeros,
    "parts in turn within a step": parts_in_turn_within_a_step,
    "blocks in turn": blocks_in_turn,
    "backward in the optimizer's own step": lambda: selfmade(clear=True, closure=False),
    "backward in the optimizer's own step, cleared after": lambda: selfmade(clear=False, closure=False),
    "a closure that is called in the optimizer's own step": lambda: selfmade(clear=True, closure=True),
    "a step that gathers gradients": gathered_by_the_optimizer,
    "a step that raises, zeros by hand": step_that_raises_and_zeros_by_hand,
    "two threads": in_threads,
    "backward in a thread": backward_in_a_thread,
}


@pytest.mark.parametrize("every", [1, 3, 50])
@pytest.mark.parametrize("program", RIGHT.values(), ids=RIGHT.keys())
def test_silent(program: Callable[[], None], every: int) -> None:
    assert [f"{f.code} {f.label}" for f in watched(program, every=every).findings] == []


def test_compiled_step_is_not_judged() -> None:
    """Inside of a compiled function nothing is seen, and the record says so."""

    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        @torch.compile(backend="eager")
        def step() -> None:
            optimizer.step()

        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            step()

    record = watched(program)
    assert record.findings == []
    if sys.version_info < (3, 13):  # else its hooks are called all the same
        assert any("compiled" in words for words in record.optimizers[0].blind)


def test_threads_that_train_at_the_same_time_are_not_looked_at() -> None:
    """What one reads while another writes it could be gone; the record says of which nobody looked at it."""
    first, second = sorted(watched(in_threads).optimizers, key=lambda optimizer: len(optimizer.blind))
    assert first.steps == second.steps == 60
    assert not first.blind
    assert any("thread" in words for words in second.blind)
    for optimizer in watched(backward_in_a_thread).optimizers:
        assert not optimizer.blind


def test_an_optimizer_where_another_lay_before() -> None:
    """It has the id of one that is gone, and is watched once."""
    session = Session(RULES, Options(), lambda finding: None)
    session.start()
    model = network()
    gone, optimizer = (torch.optim.SGD(model.parameters(), lr=0.01) for _ in range(2))
    session.watch(gone)
    session.observers[id(optimizer)] = session.observers.pop(id(gone))
    session.watch(optimizer)
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()
    session.stop()
    assert [(o.index, o.steps, o.backwards) for o in session.record.optimizers] == [(0, 0, 1), (1, 1, 1)]


def test_a_step_that_raised_is_over() -> None:
    """The next one is no part of it."""

    def program() -> None:
        model = network()
        optimizer = Failing(model.parameters())
        for _ in range(15):
            for parameter in model.parameters():
                parameter.grad = None
            loss_of(model).backward()
            with suppress(ArithmeticError):
                optimizer.step()

    (optimizer,) = watched(program).optimizers
    assert (optimizer.steps, optimizer.checked) == (15, 13)


def test_one_round_for_each_step_of_an_optimizer_that_clears_in_its_step() -> None:
    (optimizer,) = watched(lambda: selfmade(clear=True, closure=True)).optimizers
    assert optimizer.steps == LONG


# Wrong programs


def never_cleared(steps: int = 5) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss_of(model).backward()
        optimizer.step()


def cleared_for_a_while() -> None:
    """It is forgotten only after the steps that are checked at first."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(LONG):
        if i < FIRST + 5:
            optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def lbfgs_without_clearing() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    x = torch.randn(8, 3)

    def closure() -> torch.Tensor:
        loss: torch.Tensor = model(x).pow(2).mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


def last_group_lost(epochs: int = 3, batches: int = 10) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        for i in range(batches):
            (loss_of(model) / 4).backward()
            if (i + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


def cleared_in_the_window() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(16):
        optimizer.zero_grad()
        (loss_of(model) / 4).backward()
        if (i + 1) % 4 == 0:
            optimizer.step()


def step_outside() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(model).backward()
        optimizer.step()


def skip_leaves() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for i in range(8):
        loss = loss_of(model) * (float("nan") if i == 4 else 1.0)
        loss.backward()
        if not torch.isfinite(loss):
            continue
        optimizer.step()
        optimizer.zero_grad()


def actor_leaks() -> None:
    actor, critic = nn.Linear(3, 1), network(4)
    opt_actor = torch.optim.SGD(actor.parameters(), lr=0.01)
    opt_critic = torch.optim.SGD(critic.parameters(), lr=0.01)
    for _ in range(3):
        state, action = torch.randn(8, 3), torch.randn(8, 1)
        opt_actor.zero_grad()
        opt_critic.zero_grad()
        (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
        opt_actor.step()
        critic(torch.cat([state, action], 1)).pow(2).mean().backward()
        opt_critic.step()


def rebuilt_each_epoch() -> None:
    """Each of them makes more steps than are checked at first."""
    model = network()
    for _epoch in range(7):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(FIRST + 10):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()


def never_stepped() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(model).backward()


def same_loss_again() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = loss_of(model)
    for _ in range(4):
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        optimizer.step()


def backward_forgotten() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        loss_of(model)
        optimizer.step()


def clipped_too_early() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        loss_of(model).backward()
        optimizer.step()


def scaler_bypassed() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    scaling = torch.amp.GradScaler("cpu")
    for _ in range(5):
        optimizer.zero_grad()
        scaling.scale(loss_of(model)).backward()
        optimizer.step()


def never_cleared_by_a_subclass() -> None:
    model = network()
    optimizer = Inheriting(model.parameters(), lr=0.01)
    for _ in range(5):
        loss_of(model).backward()
        optimizer.step()


def never_cleared_and_changed(change: Callable[[torch.Tensor], object]) -> Callable[[], None]:
    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(5):
            loss_of(model).backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
                change(parameter.grad)
            optimizer.step()

    return program


WRONG: dict[str, tuple[Callable[[], None], str]] = {
    "never cleared, and divided": (never_cleared_and_changed(lambda grad: grad.div_(4)), "GL101"),
    "never cleared, and clipped by hand": (never_cleared_and_changed(lambda grad: grad.clamp_(-0.01, 0.01)), "GL101"),
    "never cleared by a subclass": (never_cleared_by_a_subclass, "GL101"),
    "never cleared": (never_cleared, "GL101"),
    "cleared for a while": (cleared_for_a_while, "GL101"),
    "LBFGS without clearing": (lbfgs_without_clearing, "GL113"),
    "the last group is lost": (last_group_lost, "GL111"),
    "cleared in the window": (cleared_in_the_window, "GL117"),
    "a step outside of the loop": (step_outside, "GL115"),
    "a skip leaves gradients": (skip_leaves, "GL119"),
    "an actor leaks into its critic": (actor_leaks, "GL120"),
    "an optimizer for each epoch": (rebuilt_each_epoch, "GL114"),
    "never stepped": (never_stepped, "GL115"),
    "the same loss again": (same_loss_again, "GL112"),
    "no backward at all": (backward_forgotten, "GL104"),
    "clipped too early": (clipped_too_early, "GL107"),
    "past the scaler": (scaler_bypassed, "GL109"),
}


@pytest.mark.parametrize(("program", "code"), WRONG.values(), ids=WRONG.keys())
def test_found(program: Callable[[], None], code: str) -> None:
    assert codes(program) == [code]


def trained(until: int, then: Callable[[nn.Module, torch.optim.Optimizer], None], more: int = 3) -> Callable[[], None]:
    """A program that does so many steps as it should, and a few in another way."""

    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for i in range(until + more):
            if i >= until:
                then(model, optimizer)
                continue
            optimizer.zero_grad()
            loss_of(model).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return program


def forgets_to_clear(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    optimizer.step()


def steps_without_backward(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    optimizer.step()


def clips_too_early(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    loss_of(model).backward()
    optimizer.step()


def clears_in_between(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    optimizer.zero_grad()
    optimizer.step()


def clears_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad.data.zero_()
    loss_of(model).backward()
    optimizer.step()


def gives_gradients_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = None
    for parameter, grad in zip(parameters, torch.autograd.grad(loss_of(model), parameters), strict=True):
        parameter.grad = grad
    optimizer.step()


def goes_backward_twice(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    for _ in range(2):
        (loss_of(model) / 2).backward()
    optimizer.step()


@pytest.mark.parametrize("until", [FIRST + 9, 48])
@pytest.mark.parametrize(
    ("then", "code"),
    [
        (forgets_to_clear, "GL102"),
        (steps_without_backward, "GL104"),
        (clears_in_between, "GL103"),
        (clears_by_hand, ""),
        (gives_gradients_by_hand, ""),
        (goes_backward_twice, ""),
    ],
)
def test_what_changes_after_the_first_steps_and_is_seen_at_a_glance(
    then: Callable[[nn.Module, torch.optim.Optimizer], None], code: str, until: int
) -> None:
    """In three steps that are merely checked, or around one that is a sample."""
    found = {finding.code for finding in watched(trained(until, then), every=1).findings}
    assert found == ({code} if code else set())


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize(
    ("clears", "code"),
    [
        (lambda step: step < 51, "GL101"),  # as `if epoch == 0`
        (lambda step: step % 60 == 0, "GL102"),
        (lambda step: step % 3 == 0, "GL102"),
        (lambda step: step != 55, ""),
        (lambda step: True, ""),
    ],
    ids=["stopped", "once in a while", "seldom", "once not", "always"],
)
def test_where_clearing_stops(clears: Callable[[int], bool], code: str, every: int) -> None:
    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(150):
            if clears(step):
                optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()

    assert {finding.code for finding in watched(program, every=every).findings} == ({code} if code else set())


@pytest.mark.parametrize("every", [1, 7, 50])
def test_another_order_after_the_first_steps_is_seen_at_a_sample(every: int) -> None:
    program = trained(FIRST + 9, clips_too_early, more=LONG)
    assert {finding.code for finding in watched(program, every=every).findings} == {"GL107"}


@pytest.mark.parametrize("every", [1, 7, 50])
@pytest.mark.parametrize(("clips", "code"), [(True, "GL108"), (False, "GL109")])
def test_scaled_gradients_after_the_first_steps(clips: bool, code: str, every: int) -> None:
    """That they are not unscaled is seen in their values, at steps that follow the one that raises suspicion."""

    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        scaling = torch.amp.GradScaler("cpu", init_scale=2.0**4)
        for i in range(LONG):
            optimizer.zero_grad()
            scaling.scale(loss_of(model)).backward()
            if i < FIRST + 5:
                scaling.unscale_(optimizer)
            if clips or i < FIRST + 5:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if clips or i < FIRST + 5:
                scaling.step(optimizer)
                scaling.update()
            else:
                optimizer.step()

    assert codes(program, every=every) == [code]


@pytest.mark.parametrize("later", [False, True])
def test_no_backward_at_all_in_a_function_that_is_over(later: bool) -> None:
    def train() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(45):
            optimizer.zero_grad()
            if later and step > 30:
                loss_of(model).backward()
            optimizer.step()

    def program() -> None:
        train()
        gc.collect()

    assert [finding.code for finding in watched(program).findings] == ([] if later else ["GL104"])


def test_backward_on_a_loss_of_copies() -> None:
    def program() -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(5):
            optimizer.zero_grad()
            copies = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
            torch.func.functional_call(model, copies, torch.randn(4, 3)).pow(2).mean().backward()
            optimizer.step()

    (finding,) = watched(program).findings
    assert finding.code == "GL104"
    assert "no backward so far had reached anything that it holds" in finding.label


def test_gradients_that_are_always_given_by_hand() -> None:
    """Where each new gradient may lie at the place in memory where an old one was."""

    def program() -> None:
        model = nn.Linear(3, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(LONG):
            gives_gradients_by_hand(model, optimizer)

    for every in (1, 10, 50):
        assert watched(program, every=every).findings == []


def test_place_and_words() -> None:
    """The finding stands on the backward, and speaks of the step by the user's own name."""
    (finding,) = watched(never_cleared).findings
    first = never_cleared.__code__.co_firstlineno
    assert finding.span.line == first + 4
    assert (
        finding.label == "at step 2 of optimizer: the gradients of the step before were still there when backward ran"
    )
    assert "`optimizer.step()`" in finding.why


def test_nothing_is_left_behind() -> None:
    """Hooks and attributes are as they were, and so are the parameters."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def program() -> None:
        for _ in range(30):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()

    session = Session(RULES, Options(), lambda finding: None)
    session.start()
    session.watch(optimizer)
    program()
    session.stop()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert all(not parameter._backward_hooks for parameter in model.parameters())
    assert all(not getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in model.parameters())
