"""The people: letting them in, shutting them out, telling them how to connect. Edits key files; returns what it did."""
