"""What is made from what: items, numbers, drawings, provenance."""
