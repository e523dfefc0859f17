"""The page that a window of the log makes: drawn, quoted, and closed against everything outside."""
