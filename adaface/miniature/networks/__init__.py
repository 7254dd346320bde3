"""The tiny networks: how they are built, how they are stored and loaded. Trained by `recipes`."""
