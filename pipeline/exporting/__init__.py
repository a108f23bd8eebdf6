"""Send the vectors to where they are used, and follow the table night by night."""
