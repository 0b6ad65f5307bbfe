"""Viewer: the maps of a run in a browser, from a server on this machine that only reads."""
