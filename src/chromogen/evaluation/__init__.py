"""How good a virtual stain is: metrics, and reports of them."""
