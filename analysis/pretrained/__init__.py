"""transformers models from local folders on video files: what they take of a video, and how they run over it."""
