"""The feedback API, and what every stage shares: event schema, event log, database, keys, settings, logs, metrics."""
