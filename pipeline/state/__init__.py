"""What a run writes about itself: run.json and its summary."""
