"""Which processes one machine runs, and when the fallen are started again."""

from pathlib import Path

import pytest

from deploy.kafka import NoKafka, check
from deploy.processes import engine_command, processes
from deploy.supervisor import RestartRule
from ingest.settings import EngineSettings, KafkaSettings, Settings

RULE = RestartRule(first_pause_s=0.5, max_pause_s=30, stable_s=60, max_failures=20, max_failures_at_start=3)


def test_pauses_grow_up_to_their_limit() -> None:
    assert [RULE.pause_s(failures, at_start=False) for failures in (1, 2, 3, 8, 19)] == [0.5, 1, 2, 30, 30]


def test_a_process_is_given_up_after_its_limit_and_sooner_while_the_service_starts() -> None:
    assert RULE.pause_s(20, at_start=False) is None
    assert RULE.pause_s(3, at_start=True) is None


def test_a_process_that_ran_for_long_begins_with_the_first_pause_again() -> None:
    assert RULE.failures(7, ran_s=61) == 1
    assert RULE.failures(7, ran_s=59) == 8


def test_one_machine_runs_every_stage_and_its_engine() -> None:
    assert {p.name for p in processes(Settings())} == {"engine", "ingest", "pairing", "gateway", "rollout", "trainer"}


def test_engine_and_brokers_elsewhere_are_not_started_here() -> None:
    elsewhere = Settings(
        log="kafka", kafka=KafkaSettings(bootstrap="broker.example:9092"), engine=EngineSettings(url="http://engine.example")
    )
    assert not {"engine", "kafka"} & {p.name for p in processes(elsewhere)}


def test_doors_stop_before_the_engine() -> None:
    phases = {p.name: p.stop_phase for p in processes(Settings())}
    assert max(phases["gateway"], phases["ingest"]) < phases["pairing"] < phases["engine"]


def test_the_engine_on_a_cpu_never_prefills_in_parts() -> None:
    assert "--no-enable-chunked-prefill" in engine_command(Settings(), Path("vllm.sock"), cpu=True)
    assert "--no-enable-chunked-prefill" not in engine_command(Settings(), Path("vllm.sock"), cpu=False)


def test_kafka_without_brokers_or_home_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    with pytest.raises(NoKafka, match=r"WHETSTONE_KAFKA_BOOTSTRAP.*KAFKA_HOME"):
        check()


def test_a_kafka_home_without_kafka_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(NoKafka, match=r"no bin/kafka-server-start\.sh"):
        check()


def test_kafka_without_java_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kafka-server-start.sh").touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(NoKafka, match="Java 17 or newer"):
        check()
