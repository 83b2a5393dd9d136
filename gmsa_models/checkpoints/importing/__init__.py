"""Weights of somebody's own GMSA code, taken for those of a model of the package: by name, by shape, and proven."""

from gmsa_models.checkpoints.importing.importing import ImportedState, import_state

__all__ = ["ImportedState", "import_state"]
