"""The record: everything a model saw in a clip as one labelled data set; saved and opened, checked."""
