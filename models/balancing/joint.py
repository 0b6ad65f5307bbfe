"""Joint training: the network sees everything that is present, and nothing else is asked of it."""

from .strategy import Strategy


class Joint(Strategy):
    """The plain competitor of every balancing strategy."""
