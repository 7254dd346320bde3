"""Photo albums as users have them, faults included, with the truth about every file."""
