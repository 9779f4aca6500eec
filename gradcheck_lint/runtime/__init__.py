"""Watching a run: what torch is seen to do, as plain records that the rules judge."""
