"""The actor's loss runs through the critic and leaves gradients there, which the critic's own step then uses."""

from __future__ import annotations

import torch
from torch import nn

CODE = "GL120"


def train(*, clear: bool) -> None:
    actor, critic = nn.Linear(3, 2), nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    act, judge = torch.optim.Adam(actor.parameters()), torch.optim.Adam(critic.parameters())
    for _ in range(5):
        state = torch.randn(16, 3)
        act.zero_grad()
        if not clear:
            judge.zero_grad()
        (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
        act.step()
        if clear:
            judge.zero_grad()
        action = torch.randn(16, 2)
        value = critic(torch.cat([state, action], 1))
        nn.functional.mse_loss(value, state.sum(1, keepdim=True)).backward()
        judge.step()


def wrong() -> None:
    train(clear=False)


def right() -> None:
    train(clear=True)
