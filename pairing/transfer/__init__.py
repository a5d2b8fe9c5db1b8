"""Pairs in and out: files of any size, line by line, to and from the service of this machine or another."""


class TransferFailed(Exception):
    """It cannot go on. The message says why, and what to do."""


class CutShort(TransferFailed):
    """A file ends, or is damaged, in the middle. What stood before it is good."""


class Stopped(TransferFailed):
    """It was stopped by a person."""
