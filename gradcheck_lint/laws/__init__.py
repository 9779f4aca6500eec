"""The laws of training, each written down once: plain data and functions that judge, without code and without tensors.

The linter feeds them what the code must cause, the watcher what a run did cause; a rule words what they say.
"""
