"""One thread for everything that is watched: its numbers are compared, and machines are shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gradcheck_lint.runtime import patches, regions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A session that one test leaves behind would be heard in all that come after it."""
    yield
    left = [patches.ACTIVE, patches.LOUD, patches.GLANCING, regions.LOOKING]
    found = [len(sessions) for sessions in left]
    for sessions in left:
        sessions.clear()
    assert found == [0, 0, 0, 0]
