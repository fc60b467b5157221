"""Files become arrays: readers, layouts, the catalog and simulated images. Works without torch."""
