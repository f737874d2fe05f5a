"""What image files say of themselves, and their pixels."""
