"""The site's documents as values: where it is, what its files say, and what is wrong with them, with file and line."""
