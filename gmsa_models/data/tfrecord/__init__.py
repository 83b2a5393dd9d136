"""TFRecord shards: YouTube-8M and AudioSet records, read and written with checksums."""
