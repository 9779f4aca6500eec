"""The user's own folders: what lies in them comes from the user, and from no linted repository."""

from __future__ import annotations

from pathlib import Path


def user_cache() -> Path:
    """Where this system keeps what can be made again (`~/.cache/gradlint` on Linux)."""
    import platformdirs

    return platformdirs.user_cache_path("gradlint", appauthor=False)


def user_config() -> Path:
    """Where this system keeps settings (`~/.config/gradlint` on Linux)."""
    import platformdirs

    return platformdirs.user_config_path("gradlint", appauthor=False)
