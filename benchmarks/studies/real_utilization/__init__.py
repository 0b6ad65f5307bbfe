"""Chosen reliance on real imagery: flood chips of Sentinel-2 and Sentinel-1, halved to 20 m and kept in memory.

The study puts ``benchmarks/studies`` on the path and writes ``from real_utilization.chips import read_chips``.
"""
