"""Nuclei of H&E and IHC: find, measure, judge and count them one by one."""
