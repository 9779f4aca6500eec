"""Parameters are handed over in a list, at the top level and inside a group.

A list keeps its order from run to run, so saved momentum comes back to the parameter that it belongs to. A set of
ranks is used to choose some of them, which is no harm: what is handed over is still a list.
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
optimizer = torch.optim.SGD(knobs, lr=0.1, momentum=0.9)
cost = weigh(knobs)
cost.backward()
optimizer.step()
saved = optimizer.state_dict()

later_knobs = create(reversed(range(COUNT)))
resumed = torch.optim.SGD(later_knobs, lr=0.1, momentum=0.9)
resumed.load_state_dict(saved)
misplaced = sum(resumed.state[knob]["momentum_buffer"].item() != rank for rank, knob in enumerate(later_knobs))
print(f"momentum that came back to another parameter: {misplaced} of {COUNT}")

slow_ranks = {3, 5, 8}
slow = [knob for rank, knob in enumerate(knobs) if rank in slow_ranks]
grouped = torch.optim.SGD([{"params": slow}], lr=0.01)
print(f"accepted: a group of {len(grouped.param_groups[0]['params'])}")
