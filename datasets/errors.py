"""Errors of the datasets folder: what was found, what was wanted, what to do."""


class DatasetError(ValueError):
    """Base of every error about observed data."""


class SceneError(DatasetError):
    """A scene file cannot be used as it was declared."""


class EmptySceneError(SceneError):
    """A scene has no valid pixel."""


class LabelError(DatasetError):
    """Labels disagree with the declared classes or with the grid."""


class SplitError(DatasetError):
    """A split leaks, or leaves a part of the data without a patch."""
