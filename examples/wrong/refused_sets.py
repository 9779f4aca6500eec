"""Parameters are handed over in a set, whose order is another one in every run.

torch refuses a set inside a group and takes one at the top level without a word. A saved optimizer pairs its
state with parameters by position, so after loading most momentum belongs to somebody else.
"""

import torch

COUNT = 40


def create(ranks):
    """`COUNT` parameters in order of rank, made in the order of `ranks`: another run meets other addresses."""
    made = {rank: torch.zeros(1, requires_grad=True) for rank in ranks}
    return [made[rank] for rank in range(COUNT)]


def weigh(knobs):
    """A cost whose gradient for each parameter is its own rank, so that the momentum tells whose it is."""
    return sum(rank * knob.sum() for rank, knob in enumerate(knobs))


knobs = create(range(COUNT))
optimizer = torch.optim.SGD(set(knobs), lr=0.1, momentum=0.9)  # <- GL301
cost = weigh(knobs)
cost.backward()
optimizer.step()
saved = optimizer.state_dict()

later_knobs = create(reversed(range(COUNT)))
resumed = torch.optim.SGD(set(later_knobs), lr=0.1, momentum=0.9)  # <- GL301
resumed.load_state_dict(saved)
misplaced = sum(resumed.state[knob]["momentum_buffer"].item() != rank for rank, knob in enumerate(later_knobs))
print(f"momentum that came back to another parameter: {misplaced} of {COUNT}")



def grouped():
    """The same set inside a group."""
    return torch.optim.SGD([{"params": set(knobs)}], lr=0.1)  # <- GL301


try:
    grouped()
except TypeError as refusal:
    print(f"refused: {refusal}")
