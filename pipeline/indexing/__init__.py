"""The index: found fast, never stale, and never needed, since the table is the truth."""
