"""What a user touches: the command line and the demo."""
