"""Programs that nobody wrote: what gradlint says of them, and what becomes of them when it has mended them."""
