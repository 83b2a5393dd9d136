"""Files of a user's own arrays: NumPy, HDF5 and Parquet, with one layout."""
