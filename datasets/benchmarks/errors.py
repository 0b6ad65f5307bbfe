"""Errors of public benchmark data sets."""

from ..errors import DatasetError


class BenchmarkError(DatasetError):
    """A benchmark's folder is not as its publishers deliver it."""
