"""From a model and a clip to a record: the entry points that take a GMSA model."""
