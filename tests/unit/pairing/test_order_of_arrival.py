"""Whatever the order, the repetitions and the batches in which events arrive: the pairs, votes, splits and reasons that the
plain model of the rules tells from the set of them."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.events import Event
from ingest.settings import Settings
from pairing import scope
from tests.services.histories import HISTORIES, SETTINGS
from tests.services.ledger import ledger
from tests.services.plain import assert_as_the_model_says


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data(), HISTORIES, SETTINGS, st.sampled_from([scope.FEW, 1, 0]))
def test_any_order_repetition_and_batches_give_what_the_plain_model_says(
    data: st.DataObject, sent: Sequence[Event], rules: Settings, few: int
) -> None:
    again = data.draw(st.lists(st.sampled_from(sent), max_size=5))
    with pytest.MonkeyPatch.context() as patch, ledger(settings=rules) as piecemeal:
        patch.setattr(scope, "FEW", few)
        piecemeal.add(*data.draw(st.permutations([*sent, *again])))
        assert_as_the_model_says(piecemeal.database, sent, rules)
