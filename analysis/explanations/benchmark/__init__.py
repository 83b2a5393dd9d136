"""The explanation benchmark of one clip: explainers, one's own too, and what each of them is measured by."""
