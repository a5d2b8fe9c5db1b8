from collections.abc import Iterator

import pytest

from tests.services.ledger import Ledger
from tests.services.ledger import ledger as empty_ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with empty_ledger() as empty:
        yield empty
