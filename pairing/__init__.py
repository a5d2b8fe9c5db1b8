"""Stored events, and the votes and pairs that follow from them by pure rules."""
