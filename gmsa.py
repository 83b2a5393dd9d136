"""Command line of the workbench."""
