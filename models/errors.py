"""Errors of the models folder: every message says what was found, what was wanted and what to do."""


class ModelError(ValueError):
    """A network, a batch or a meter was asked for something that it cannot do."""


class CheckpointError(ModelError):
    """A saved model is missing, damaged, foreign, or disagrees with its own card."""


def wanted(found: str, want: str, remedy: str) -> str:
    """Compose the one-line message that every error of this folder carries.

    Parameters
    ----------
    found
        What was met, with its value.
    want
        What would have been right.
    remedy
        What the reader can do about it.

    Returns
    -------
    str
        ``"found ...; wanted ...; ..."``.
    """
    return f"found {found}; wanted {want}; {remedy}"


def require(condition: bool, found: str, want: str, remedy: str) -> None:
    """Raise unless the condition holds.

    Parameters
    ----------
    condition
        What must be true.
    found, want, remedy
        The parts of the message, as in :func:`wanted`.

    Raises
    ------
    ModelError
        The condition is false.
    """
    if not condition:
        raise ModelError(wanted(found, want, remedy))
