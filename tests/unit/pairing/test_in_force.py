import pytest

from ingest.settings import CriterionSettings, SourceSettings, SourcesSettings, TaskPairingSettings, TaskSettings, TriggerSettings
from pairing.rules.in_force import rules_of


def limit(name: str = "length", **fields: float) -> CriterionSettings:
    return CriterionSettings(name=name, type="word_limit", max_words=9, **fields)


RULES = rules_of(TaskSettings(criteria=(limit(),)))


@pytest.mark.parametrize(
    "changed",
    [
        TaskSettings(),
        TaskSettings(criteria=(limit("tone"),)),
        TaskSettings(criteria=(limit(weight=2),)),
        TaskSettings(criteria=(limit(min_margin=0.1),)),
        TaskSettings(criteria=(limit(), limit("tone"))),
        TaskSettings(criteria=(limit(),), pairing=TaskPairingSettings(choice="first")),
        TaskSettings(criteria=(limit(),), pairing=TaskPairingSettings(sources=SourcesSettings(choice=SourceSettings(weight=2)))),
    ],
)
def test_a_setting_that_changes_pairs_changes_the_rules(changed: TaskSettings) -> None:
    assert rules_of(changed).digest != RULES.digest


@pytest.mark.parametrize(
    "changed",
    [
        TaskSettings(criteria=(limit(max_drop=0.5),)),
        TaskSettings(criteria=(limit(),), trigger=TriggerSettings(min_new_pairs=1)),
        TaskSettings(criteria=(limit(), limit(weight=2))),  # of one name the first counts
    ],
)
def test_a_setting_that_changes_no_pairs_derives_nothing_again(changed: TaskSettings) -> None:
    assert rules_of(changed).digest == RULES.digest


def test_the_order_of_criteria_is_a_rule() -> None:
    one, other = limit("one"), limit("other")
    assert rules_of(TaskSettings(criteria=(one, other))).digest != rules_of(TaskSettings(criteria=(other, one))).digest
