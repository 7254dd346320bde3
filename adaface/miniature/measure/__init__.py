"""What the trained models can do, measured on people who were in no training set."""
