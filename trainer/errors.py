"""What can go wrong in a round and with criteria, by what the caller does about it."""


class TrainerError(Exception):
    """A round cannot go on."""


class NotSealed(TrainerError):
    """The adapter's folder is not what its manifest says: do not load it. Train the round again."""


class CannotTrain(TrainerError):
    """The round can never be trained as it was planned: it fails without another attempt."""


class CriterionFailed(CannotTrain):
    """A criterion has no answer about a reply: correct what the settings say of it, or its function."""


class NotServed(TrainerError):
    """The gateway did not answer in time: the round is started again later."""


class CannotScore(TrainerError):
    """Replies cannot be scored as things are. The message says what to do first."""
