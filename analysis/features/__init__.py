"""Features of a user's own videos: extractors by name, one video as a clip, a folder of clips with labels."""
