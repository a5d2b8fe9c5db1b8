"""Swaps on vLLM itself, under clients that stream all the while."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.serving import Installation, Traffic, eventually

MODEL = Path(__file__).parents[2] / "var/models/smollm2-135m-instruct"


@pytest.mark.long
def test_three_swaps_on_vllm_fail_and_stall_no_request(tmp_path: Path) -> None:
    with ExitStack() as stack:
        installation = Installation(tmp_path, stack, model=MODEL)
        stack.enter_context(installation.engine())
        stack.enter_context(installation.gateway())
        stack.enter_context(installation.rollout())
        with Traffic(installation, max_tokens=24) as traffic:
            names = [installation.seal(number) for number in (1, 2, 3)]
            for name in names:
                installation.swap(name)
                count = len(traffic.replies)
                eventually(lambda count=count: len(traffic.replies) > count + 12)
        time.sleep(0.5)
        assert traffic.errors == []
        assert {header for header, _, _ in traffic.replies} == {"base", *names}
        assert traffic.slowest_first_byte_s < 5
        recorded = installation.generations()
        assert all((recorded[generation].adapter or "base") == header for header, _, generation in traffic.replies)
        assert all(recorded[generation].candidates[0].reply.content == text for _, text, generation in traffic.replies)
