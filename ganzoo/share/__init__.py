"""Finished rows beyond their run: compared with another run's, merged, exported, shared, opened."""
