"""Video files: pictures picked by presentation time, and the sound of the same seconds. Needs the extra `video`."""
