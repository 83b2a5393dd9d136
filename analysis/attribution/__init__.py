"""Attribution: what each frame, modality and feature adds to the score of a class, by the methods of captum."""
