"""The evaluation: a protocol, metrics on features, and a report."""
