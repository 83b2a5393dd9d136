"""Record or table in, matplotlib Figure out. `gmsa figures` draws them all. No torch needed to draw."""
