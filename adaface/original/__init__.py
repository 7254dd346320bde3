"""Reading the original's checkpoints: pickles of objects, taken for data and never run."""
