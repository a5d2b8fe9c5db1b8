"""The reconciling loop that loads, warms, flips, drains and unloads adapters."""
