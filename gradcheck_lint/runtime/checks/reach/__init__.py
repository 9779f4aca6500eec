"""Which leaves a backward reaches, what cuts the others off, and whether what flows back is the derivative."""
