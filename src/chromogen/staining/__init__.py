"""Where times how: an H&E's own picture, in the amounts and colours of an IHC exemplar."""
