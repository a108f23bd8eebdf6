"""What people and monitors read: progress, status, tables of text, metrics."""
