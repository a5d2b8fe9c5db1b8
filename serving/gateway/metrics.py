"""What the gateway counts. No label ever carries what a user wrote or who the user is."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("whetstone_gateway_requests", "Requests for a reply, by how they ended.", ["task", "adapter", "status"])
IN_FLIGHT = Gauge("whetstone_gateway_in_flight", "Requests not yet finished.", ["adapter"], multiprocess_mode="livesum")
FIRST_BYTE = Histogram("whetstone_gateway_first_byte_seconds", "From a request to the first byte of its reply.", ["task"])
SHIPPED = Counter("whetstone_gateway_generations_shipped", "Generations that the event log has taken from the spool.")
SPOOL_BYTES = Gauge(
    "whetstone_gateway_spool_bytes", "Bytes of generations that wait for the event log.", multiprocess_mode="livesum"
)
UNRECORDED = Counter("whetstone_gateway_generations_unrecorded", "Replies that went out and are not kept: no room, or too large.")
