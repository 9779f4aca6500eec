"""The programs that `watch.py` trains: each builds its model anew and then runs as many steps as it is told."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Backward = Callable[[int, Tensor, Tensor, Tensor], None]
"""What goes backward in place of `loss.backward()`: step, outputs, targets, loss."""


class Job(NamedTuple):
    """One block of training, ready to run. `run` takes the number of steps, what goes backward where it is not
    `loss.backward()`, and what is called when a step is over."""

    model: nn.Module  # all that is trained
    optimizers: tuple[torch.optim.Optimizer, ...]
    run: Callable[[int, Backward | None, Callable[[], object]], None]


class Program(NamedTuple):
    """`steps` are those of one block; in a `plain` loop each has one batch and one backward."""

    name: str
    job: Callable[[], Job]
    steps: int
    plain: bool = True


# Classifiers


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.way: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.way = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.body(x) + self.way(x))
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def narrow() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(99) for layer in (nn.Linear(32, 32), nn.Tanh())), nn.Linear(32, 10))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), nn.Linear(256, 10))


def convolutional() -> nn.Module:
    widths = (
        (64, 64, 1),
        (64, 64, 1),
        (64, 128, 2),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 1),
        (256, 512, 2),
        (512, 512, 1),
    )
    stem = (nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(
        *stem, *(Residual(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
    )


def classifier(
    build: Callable[[], nn.Module], shape: tuple[int, ...], optimizer_of: Callable[[Any], torch.optim.Optimizer]
) -> Callable[[], Job]:
    def job() -> Job:
        model = build()
        optimizer = optimizer_of(model.parameters())
        x = torch.randn(*shape)
        targets = torch.randint(10, shape[:-1] if len(shape) < 4 else shape[:1]).flatten()
        lossf = nn.CrossEntropyLoss()

        def run(steps: int, backward: Backward | None, over: Callable[[], object]) -> None:
            for number in range(steps):
                optimizer.zero_grad()
                out = model(x).flatten(0, -2)
                loss = lossf(out, targets)
                if backward is None:
                    loss.backward()
                else:
                    backward(number, out, targets, loss)
                optimizer.step()
                over()

        return Job(model, (optimizer,), run)

    return job


# Reinforcement learning


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())][:-1])


def library_dqn() -> Job:
    """DQN of stable-baselines3 on CartPole, as its `learn` runs it: rollouts, replay buffer and all."""
    warnings.simplefilter("ignore")
    algorithm = importlib.import_module("stable_baselines3").DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    callback: Any = importlib.import_module("stable_baselines3.common.callbacks").BaseCallback

    def run(steps: int, _: Backward | None, over: Callable[[], object]) -> None:
        class Over(callback):  # type: ignore[misc]
            def _on_step(self) -> bool:
                return True

            def _on_rollout_start(self) -> None:
                over()

        algorithm.learn(algorithm.learning_starts + 4 * steps, callback=Over())  # it trains at each fourth

    return Job(algorithm.policy, (algorithm.policy.optimizer,), run)


class Policy(nn.Module):
    """The networks of `own_dqn`, nested as a library nests them."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.ModuleDict({"features": nn.Flatten(), "values": layers(4, 64, 64, 2)})
        self.target = copy.deepcopy(self.online)

    @staticmethod
    def values(network: nn.ModuleDict, states: Tensor) -> Tensor:
        out: Tensor = network["values"](network["features"](states))
        return out


def own_dqn() -> Job:
    """The same habits without the library: modes switched around each step, a target that follows slowly."""
    policy = Policy()
    optimizer = torch.optim.Adam(policy.online.parameters(), lr=1e-4)
    states, following, rewards = torch.randn(1000, 4), torch.randn(1000, 4), torch.rand(1000, 1)
    actions = torch.randint(2, (1000, 1))

    def act(state: Tensor) -> Tensor:
        policy.train(False)
        with torch.no_grad():
            return Policy.values(policy.online, state).argmax()

    def run(steps: int, _: Backward | None, over: Callable[[], object]) -> None:
        for _number in range(steps):
            for state in states[:4]:
                act(state[None])
            policy.train(True)
            some = torch.randint(1000, (32,))
            with torch.no_grad():
                best = Policy.values(policy.target, following[some]).max(dim=1, keepdim=True).values
                targets = rewards[some] + 0.99 * best
            values = Policy.values(policy.online, states[some]).gather(1, actions[some])
            loss = functional.smooth_l1_loss(values, targets)
            loss.item()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(policy.parameters(), 10)
            optimizer.step()
            follow(policy.online, policy.target)
            over()

    return Job(policy, (optimizer,), run)


def follow(network: nn.Module, target: nn.Module) -> None:
    """Polyak's average, as it is written everywhere."""
    for parameter, slow in zip(network.parameters(), target.parameters(), strict=True):
        slow.data.mul_(0.995)
        slow.data.add_(0.005 * parameter.data)


def actor_critic() -> Job:
    """Soft actor-critic with two critics and a temperature that is learnt: three optimizers, three backwards a step."""
    actor, critics = layers(11, 64, 64, 6), nn.ModuleList([layers(14, 64, 64, 1), layers(14, 64, 64, 1)])
    targets = copy.deepcopy(critics)
    temperature = torch.zeros(1, requires_grad=True)
    of_actor = torch.optim.Adam(actor.parameters(), lr=3e-4)
    of_critics = torch.optim.Adam(critics.parameters(), lr=3e-4)
    of_temperature = torch.optim.Adam([temperature], lr=3e-4)
    states, following, actions = torch.randn(1000, 11), torch.randn(1000, 11), torch.rand(1000, 3) * 2 - 1
    rewards = torch.rand(1000)

    def sample(state: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = actor(state).chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, deviation.clamp(-5, 2).exp(), validate_args=False)
        raw = normal.rsample()
        action = raw.tanh()
        likely = normal.log_prob(raw) - torch.log(1 - action.pow(2) + 1e-6)  # type: ignore[no-untyped-call]
        return action, likely.sum(dim=1)

    def least(networks: nn.ModuleList, state: Tensor, action: Tensor) -> Tensor:
        both = torch.cat([state, action], dim=1)
        out: Tensor = torch.min(networks[0](both), networks[1](both)).squeeze(1)
        return out

    def run(steps: int, _: Backward | None, over: Callable[[], object]) -> None:
        for _number in range(steps):
            some = torch.randint(1000, (64,))
            state, alpha = states[some], temperature.exp().detach()
            with torch.no_grad():
                then, likely = sample(following[some])
                wanted = rewards[some] + 0.99 * (least(targets, following[some], then) - alpha * likely)
            both = torch.cat([state, actions[some]], dim=1)
            of_critics.zero_grad()
            sum(functional.mse_loss(critic(both).squeeze(1), wanted) for critic in critics).backward()  # type: ignore[union-attr]
            of_critics.step()
            action, likely = sample(state)
            of_actor.zero_grad()
            (alpha * likely - least(critics, state, action)).mean().backward()  # type: ignore[no-untyped-call]
            of_actor.step()
            of_temperature.zero_grad()
            (-temperature.exp() * (likely.detach() - 3)).mean().backward()  # type: ignore[no-untyped-call]
            of_temperature.step()
            follow(critics, targets)
            over()

    return Job(nn.ModuleList([actor, critics]), (of_actor, of_critics, of_temperature), run)


def programs() -> Iterator[tuple[str, Program]]:
    """By letter."""
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    yield "a", Program("a  MLP 2x64, SGD", classifier(mlp, (64, 64), lambda p: sgd(p, 0.01, momentum=0.9)), 6000)
    yield "b", Program("b  100 narrow layers, 200 parameters, Adam", classifier(narrow, (64, 32), adam), 600)
    yield (
        "c",
        Program("c  transformer, 6 layers of 256, AdamW", classifier(transformer, (8, 64, 256), torch.optim.AdamW), 60),
    )
    images = (8, 3, 32, 32)
    yield "d", Program("d  ResNet-18, 32x32", classifier(convolutional, images, lambda p: sgd(p, 0.01)), 60)
    if importlib.util.find_spec("stable_baselines3"):
        yield "e", Program("e  DQN of stable-baselines3 on CartPole", library_dqn, 1270, plain=False)
    else:
        yield "e", Program("e  DQN with the habits of stable-baselines3", own_dqn, 1270, plain=False)
    yield "f", Program("f  soft actor-critic, three optimizers", actor_critic, 1000, plain=False)
