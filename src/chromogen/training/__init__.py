"""Training of the network that says *where*: pairs checked, what they teach, and the way down."""
