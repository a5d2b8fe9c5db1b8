from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from ingest.log.partitioner import partition_of


@given(st.binary(max_size=200), st.integers(1, 1000))
def test_a_key_goes_where_kafkas_own_clients_would_send_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions
