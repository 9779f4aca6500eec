"""Reading code: from paths to findings. See `docs/architecture.md` for the order in which its modules work."""
