"""Errors of the pipeline: what was found, what was wanted, what to do."""


class PipelineError(RuntimeError):
    """Base of every error about a run."""


class ConfigError(PipelineError):
    """The configuration cannot be used."""


class RunFolderError(PipelineError):
    """The run folder is missing something, damaged, or belongs to another run."""


class AlignmentError(PipelineError):
    """The modalities of a scene cannot be brought onto one grid."""
