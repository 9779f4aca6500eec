"""How often a schedule moves, and what is built anew as often as it should not be."""
