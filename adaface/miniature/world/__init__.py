"""What can be seen: people by their factors, scenes by their words, and what is said about both."""
