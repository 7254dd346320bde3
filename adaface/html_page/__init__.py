"""What the pages of reports have in common."""
