"""Which models the project needs, whether they are there, and how to get them."""
