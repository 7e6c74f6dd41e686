"""Files that dlcore reads and writes."""
