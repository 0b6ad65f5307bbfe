"""The oracle scene of the studies: invented images of which everything that can be known is known exactly.

Study scripts put ``benchmarks/studies`` on the path and write ``from oracle.scene import OracleScene``.
"""
