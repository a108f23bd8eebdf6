"""Process images: one file for each stage, one folder for each family of sources or networks."""
