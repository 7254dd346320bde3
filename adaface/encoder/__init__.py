"""The encoder: an ID embedding becomes sixteen vectors that stand in a prompt."""
