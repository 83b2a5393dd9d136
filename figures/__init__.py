"""Record or table in, matplotlib Figure out. `python -m figures` draws them all. No torch needed to draw."""
