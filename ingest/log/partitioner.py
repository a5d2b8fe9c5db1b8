"""Which partition a key belongs to: the same in every log, and the same as in Apache Kafka's own clients."""

_SEED = 0x9747B28C
_M = 0x5BD1E995  # with the shifts of 24, 13 and 15, the constants of murmur2
_MASK = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner picks it."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    """32-bit murmur2 as in Kafka's `org.apache.kafka.common.utils.Utils`."""
    h = _SEED ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
