"""Runs code abstractly: names become values, calls are followed, and what matters becomes events.

Both arms of a branch are taken and the values joined after it; a loop's body is run once more where its first run
changed something that matters; a call of the project's own code is followed into its body with the arguments it is
given. What cannot be followed gives an opaque thing that remembers what it was made from, and an "unknown" event
where it might touch the gradient cycle.

One module for each construct. Handlers are functions of the machine and a node; the machine knows none of them and is
given them by `program`. Imports run one way: machine, values and their questions, constructs, calls, program.
"""
