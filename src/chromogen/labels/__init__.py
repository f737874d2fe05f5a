"""Labels for an H&E from the IHC of its block: nuclei that both sections show, squares, and regions of DAB."""
