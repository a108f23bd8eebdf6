"""Train a network itself on the images of a table: ``train --unfreeze``."""
