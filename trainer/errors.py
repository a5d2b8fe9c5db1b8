"""What can go wrong in a round, by what the caller does about it."""


class TrainerError(Exception):
    """A round cannot go on."""


class NotSealed(TrainerError):
    """The adapter's folder is not what its manifest says: do not load it. Train the round again."""


class CannotTrain(TrainerError):
    """The round can never be trained as it was planned: it fails without another attempt."""


class NotServed(TrainerError):
    """The gateway did not answer in time: the round is started again later."""
