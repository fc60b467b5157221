"""Arrays become pictures and reports."""
