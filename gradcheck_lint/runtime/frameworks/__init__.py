"""Callbacks for frameworks that hold the training loop themselves; each module imports its framework, so none is
imported before it is asked for. Their public home is `gradcheck_lint.frameworks`.
"""
