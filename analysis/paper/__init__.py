"""What the paper's figures and table are made of: tables of many videos and models, each a labelled data set."""
