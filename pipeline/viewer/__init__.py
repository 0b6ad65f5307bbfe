"""Viewer: maps of a run, or of a folder, in a browser on this machine."""
