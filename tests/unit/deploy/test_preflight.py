"""What is missing is said in one sentence with the remedy, before anything starts."""

import socket
from pathlib import Path

import pytest

from deploy.preflight import CannotStart, check_disk, check_memory, check_model, check_port, check_socket, needed_gib
from ingest.settings import EngineSettings, ModelSettings, Settings


def test_a_port_in_use_names_the_setting_that_changes_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} on 127.0.0.1 is in use.*WHETSTONE_GATEWAY_PORT"):
            check_port("127.0.0.1", port, "gateway")
    check_port("127.0.0.1", port, "gateway")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 cannot be used.*WHETSTONE_INGEST_HOST"):
        check_port("192.0.2.1", 0, "ingest")


def test_a_path_too_long_for_a_socket_names_the_data_directory() -> None:
    check_socket("/" + "x" * 106)
    with pytest.raises(CannotStart, match="WHETSTONE_DATA_DIR"):
        check_socket("/" + "x" * 107)


def test_a_missing_demo_model_points_to_the_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotStart, match="run `make setup`"):
        check_model(ModelSettings().name)


@pytest.mark.parametrize("name", ["./models/mine", "/nowhere/mine", "var/models/mine"])
def test_a_directory_without_a_model_is_refused(name: str) -> None:
    with pytest.raises(CannotStart, match="WHETSTONE_MODEL_NAME"):
        check_model(name)


def test_a_name_on_the_hub_is_left_to_the_engine() -> None:
    check_model("organisation/model")


def test_too_little_memory_says_how_much_is_needed() -> None:
    with pytest.raises(CannotStart, match=r"6\.0 GiB of memory are needed and 2\.5 GiB are free"):
        check_memory(2.5, needed_gib(Settings(engine=EngineSettings(cpu_kv_cache_gib=2)), cpu=True))


def test_an_engine_elsewhere_needs_no_memory_here() -> None:
    elsewhere = Settings(engine=EngineSettings(url="http://engine.example:8000"))
    assert needed_gib(elsewhere, cpu=True) < 1


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"2 GiB of disk.*0\.5 GiB are free"):
        check_disk(tmp_path, 0.5)
