import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_looked_for_among_what_is_new() -> None:
    """Each worker of pairing collects garbage; in a process that has imported all tests that would take most of its time."""
    gc.collect()
    gc.freeze()
