"""Which leaf tensors an optimizer, a model, a group and a checkpoint hold, and whether they are the same objects."""
