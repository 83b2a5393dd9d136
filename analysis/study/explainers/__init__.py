"""The explanation benchmark over videos and models: a resumable run, its table, and what it comes to."""
