"""Database migrations of the pages."""
