"""What a run found, for people: a ranked table and figures."""
