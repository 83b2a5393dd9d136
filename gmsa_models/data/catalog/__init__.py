"""Catalogues: Parquet tables of shards, by which any clip opens at once."""
