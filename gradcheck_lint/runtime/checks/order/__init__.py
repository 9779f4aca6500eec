"""The order of zero, backward and step over several steps, graphs and optimizers; one step alone is the machine's."""
