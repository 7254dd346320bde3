"""Scores of pictures: small functions of features, without a network."""
