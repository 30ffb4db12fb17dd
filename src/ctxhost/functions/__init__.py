"""Apps: a folder with a manifest, a schema and handler files, and the database that its handlers see."""
