"""Decides when a round is due, trains it in a child process, judges it and seals the adapter."""
