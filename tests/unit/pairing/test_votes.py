from ingest.events import canonical, fingerprint
from ingest.settings import SourceSettings, SourcesSettings, TaskPairingSettings
from pairing.outcomes import DeadReason, Outcome
from tests.services.feedback import acceptance, choice, edit, event, generation, held, preference, record, ref, regeneration
from tests.services.ledger import Ledger, settings_for
from tests.services.ledger import ledger as empty_ledger

A, B = ref("g", 0), ref("g", 1)


def test_the_majority_decides_and_a_flip_makes_another_pair(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), choice("c1", A, A, B, user="ann"))
    before = ledger.pair()
    ledger.add(choice("c2", B, A, B, user="bob"))
    assert ledger.pairs() == []
    ledger.add(choice("c3", B, A, B, user="cid"))
    after = ledger.pair()
    assert ledger.pairs() == [("beta", "alpha")]
    assert after.id != before.id
    assert (after.votes_for, after.votes_against) == (2, 1)
    assert [ledger.outcome(id_) for id_ in ("c1", "c2", "c3")] == [Outcome.OUTVOTED, Outcome.PAIRED, Outcome.PAIRED]


def test_who_comes_to_another_opinion_moves_one_vote_and_no_more(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), choice("c1", A, A, B, user="ann", at=1), choice("c2", A, A, B, user="bob"))
    assert ledger.add(choice("c3", B, A, B, user="ann", at=2)).pairs() == []
    pair = ledger.add(choice("c4", B, A, B, user="cid")).pair()
    assert (pair.chosen, pair.votes_for, pair.votes_against) == ('"beta"', 2, 1)


def test_a_person_has_one_vote_on_two_replies_however_often_they_meet(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), generation("h", "alpha", "beta"))
    ledger.add(choice("c1", A, A, B, at=1), choice("c2", ref("h", 1), ref("h", 0), ref("h", 1), at=2))
    assert ledger.pairs() == [("beta", "alpha")]
    assert ledger.outcome("c1") == Outcome.SUPERSEDED
    assert ledger.pair().votes_for == 1


def test_one_event_is_one_vote_though_it_says_the_same_twice(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), generation("h", "alpha"), regeneration("r", "h", "g"), choice("c", B, A, B))
    pair = ledger.pair()
    assert (pair.source, pair.votes_for) == ("choice", 1)


def test_ids_of_any_letters_are_behind_the_pair(ledger: Ledger) -> None:
    ids = 'a "record"', "a \\ choice, für 🦉"
    ledger.add(generation("g", "alpha", "beta", event_id=ids[0]), choice(ids[1], B, A, B))
    assert ledger.behind() == {*ids}


def test_a_pair_is_named_after_the_source_that_errs_least(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), choice("c", B, A, B), edit("e", "g", "beta", user="bob"))
    assert (ledger.pair().source, ledger.pair().votes_for) == ("edit", 2)


def test_a_pair_says_how_far_its_source_is_trusted(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), generation("h", "gamma"), choice("c", A, A, B))
    ledger.add(edit("e", "g", "saved", candidate=1), edit("x", "g", "better", by="expert"))
    ledger.add(regeneration("r", "g", "h"), acceptance("a", "h", at=1))
    found = {pair.source: (pair.wrong_share, pair.weight) for pair in ledger.rows()}
    assert found == {"expert": (0.02, 5), "edit": (0.05, 1), "choice": (0.1, 1), "regeneration": (0.2, 1)}


def test_the_settings_say_what_a_vote_weighs_and_other_ones_count_again(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), choice("c", A, A, B), edit("e", "g", "beta", user="bob"))
    assert ledger.pairs() == []
    heavier = SourcesSettings(choice=SourceSettings(weight=3, wrong_share=0.3))
    ledger.settings = settings_for(TaskPairingSettings(sources=heavier))
    pair = ledger.add().pair()
    assert (pair.chosen, pair.source, pair.votes_for, pair.votes_against) == ('"alpha"', "choice", 1, 1)
    assert (pair.weight, pair.wrong_share) == (2, 0.3)


def test_a_pair_keeps_the_tools_of_its_request_and_other_tools_are_another_prompt(ledger: Ledger) -> None:
    tools = [{"type": "function", "function": {"name": "find"}}]
    ledger.add(generation("g", "alpha", "beta", tools=tools), generation("h", "gamma"), choice("c", A, A, B))
    ledger.add(choice("d", A, A, ref("h"), user="bob"))
    assert ledger.pair().tools == canonical(tools).decode()
    assert ledger.outcome("d") == Outcome.DIFFERENT_PROMPTS


def test_a_preference_is_a_pair_as_it_is(ledger: Ledger) -> None:
    ledger.add(preference("p", "good", "bad", tools=[{"type": "function"}]))
    pair = ledger.pair()
    assert (pair.source, pair.prompt, pair.tools) == ("preference", '"Describe the sea."', '[{"type":"function"}]')


def test_a_preference_for_the_same_text_has_its_reason(ledger: Ledger) -> None:
    assert ledger.add(preference("p", "same", "same")).outcome("p") == Outcome.SAME_TEXT


def test_preferences_without_a_user_are_one_vote_each(ledger: Ledger) -> None:
    ledger.add(preference("p1", "good", "bad", user=None), preference("p2", "good", "bad", user=None))
    assert ledger.pair().votes_for == 2


def test_feedback_sent_twice_makes_one_pair(ledger: Ledger) -> None:
    sent = [generation("g", "alpha", "beta"), choice("c", A, A, B)]
    ledger.add(*sent, *sent).add(*sent)
    assert (ledger.pairs(), ledger.pair().votes_for, ledger.dead()) == ([("alpha", "beta")], 1, [])


def test_feedback_that_arrives_before_its_generation_still_becomes_a_pair(ledger: Ledger) -> None:
    ledger.add(choice("c", A, A, B))
    assert (ledger.pairs(), ledger.outcome("c")) == ([], Outcome.WAITING_FOR_GENERATION)
    assert ledger.add(generation("g", "alpha", "beta")).pairs() == [("alpha", "beta")]
    assert ledger.outcome("c") == Outcome.PAIRED


def test_of_two_bodies_under_one_id_the_smaller_hash_counts_in_either_order(ledger: Ledger) -> None:
    bodies = [choice("c", A, A, B), choice("c", B, A, B)]
    small, large = sorted(bodies, key=lambda one: fingerprint(canonical(one)))
    ledger.add(generation("g", "alpha", "beta"), large)
    ledger.add(small)
    expected = [("alpha", "beta")] if small is bodies[0] else [("beta", "alpha")]
    assert ledger.pairs() == expected
    assert ledger.add(large).pairs() == expected
    [letter] = ledger.dead()
    assert (letter.reason, letter.value) == (DeadReason.CONFLICTING_BODY, canonical(large))


def test_a_body_that_is_replaced_leaves_nothing_behind(ledger: Ledger) -> None:
    bodies = [choice("c", A, A, B), preference("c", "good", "bad"), edit("c", "h", "saved")]
    ledger.add(generation("g", "alpha", "beta"), generation("h", "draft"))
    ledger.add(*sorted(bodies, key=lambda one: fingerprint(canonical(one)), reverse=True)[:1])
    ledger.add(*bodies)
    assert len(ledger.pairs()) == 1
    assert len(ledger.dead()) == 2


def test_what_the_gateway_recorded_outranks_what_a_feedback_carries(ledger: Ledger) -> None:
    ledger.add(choice("c", A, A, B, generation=held("g", "claimed", "other")))
    assert ledger.pairs() == [("claimed", "other")]
    assert ledger.add(generation("g", "alpha", "beta")).pairs() == [("alpha", "beta")]


def test_of_two_carried_generations_the_event_with_the_smaller_hash_has_it_in_either_order(ledger: Ledger) -> None:
    bodies = [acceptance(id_, "g", generation=held("g", *texts)) for id_, texts in (("a", ("one", "two")), ("b", ("uno", "dos")))]
    small, large = sorted(bodies, key=lambda one: fingerprint(canonical(one)))
    ledger.add(large, choice("c", A, A, B))
    first = ledger.pairs()
    assert ledger.add(small).pairs() != first
    with empty_ledger() as other:
        assert other.add(small, choice("c", A, A, B)).add(large).pairs() == ledger.pairs()


def test_an_erased_users_feedback_counts_as_nothing_whenever_it_comes(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta", user=None), choice("c1", A, A, B, user="ann"))
    ledger.add(event("erasure", "x", user="ann"))
    assert (ledger.pairs(), ledger.outcome("c1")) == ([], Outcome.ERASED)
    ledger.add(choice("c2", B, A, B, user="ann", at=5), generation("h", "gamma", user="ann"))
    assert (ledger.pairs(), ledger.outcome("c2"), ledger.outcome("h")) == ([], Outcome.ERASED, Outcome.ERASED)
    assert ledger.add(choice("c3", B, A, B, user="bob")).pairs() == [("beta", "alpha")]


def test_an_erased_users_preferences_go_too(ledger: Ledger) -> None:
    assert ledger.add(preference("p", "good", "bad"), event("erasure", "x", user="ann")).pairs() == []


def test_a_record_of_an_event_keeps_text_code_point_by_code_point(ledger: Ledger) -> None:
    odd = "e\u0301\u0000\u2028 \U0001f642"
    ledger.add_records([record(preference("p", odd, "plain"))])
    assert ledger.pairs() == [(odd, "plain")]
