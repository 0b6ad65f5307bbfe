"""Equipoise: satellite-image fusion with a sensor reliance that the user chooses."""

__version__ = "0.1.0"

__all__ = ["__version__"]
